"""Hybrids of CNN and Vision Transformer as other libraries name, configure and open them."""
