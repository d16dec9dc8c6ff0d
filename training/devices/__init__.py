"""Processes, devices and memory of a run."""
