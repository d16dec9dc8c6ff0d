"""Swin Transformers of both versions as other libraries name, configure and open them."""
