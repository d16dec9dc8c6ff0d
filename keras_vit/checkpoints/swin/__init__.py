"""Checkpoints of Swin Transformers of both versions: names, fields, reading and writing."""
