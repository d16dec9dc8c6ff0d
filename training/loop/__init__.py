"""The training loop: start, training, checkpoints and end of a run."""
