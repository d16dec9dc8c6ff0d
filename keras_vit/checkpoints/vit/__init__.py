"""Checkpoints of Vision Transformers, DeiT among them: names, fields, reading and writing."""
