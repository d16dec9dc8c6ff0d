"""Preprocessing of other libraries: read from their configurations, and written to them."""
