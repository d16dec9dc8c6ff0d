"""Checkpoints of hybrids of CNN and Vision Transformer: names, fields, reading and writing."""
