"""Checkpoints of DETR: names, fields, reading and writing."""
