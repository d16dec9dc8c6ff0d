"""Checkpoints of SETR: names, reading and writing."""
