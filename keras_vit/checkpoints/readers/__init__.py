"""Readers of checkpoint files, a module a format: named arrays, read one at a time."""
