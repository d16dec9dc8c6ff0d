"""Checkpoints of the Pyramid Vision Transformer: names, fields, reading and writing."""
