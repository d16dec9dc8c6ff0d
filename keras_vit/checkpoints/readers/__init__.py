"""Checkpoint files as named arrays that are read one at a time, and never run: a file a format."""
