"""Checkpoints of MAE: names, reading and writing."""
