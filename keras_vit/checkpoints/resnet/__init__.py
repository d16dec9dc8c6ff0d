"""Checkpoints of ResNet: names, fields, reading and writing."""
