"""Checkpoints of the Pyramid Vision Transformer v2: names, fields, reading and writing."""
