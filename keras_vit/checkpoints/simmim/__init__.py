"""Checkpoints of SimMIM: our own files, whose encoder may be of any family."""
