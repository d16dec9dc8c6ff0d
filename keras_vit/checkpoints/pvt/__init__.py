"""The Pyramid Vision Transformer as other libraries name, configure and open it."""
