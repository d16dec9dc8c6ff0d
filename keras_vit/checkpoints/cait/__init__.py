"""Checkpoints of CaiT: names, fields, reading and writing."""
