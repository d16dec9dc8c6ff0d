"""The version of this package, without importing Keras."""

__version__ = "0.2.0"
