"""Vision Transformers, DeiT among them, as other libraries name them."""
