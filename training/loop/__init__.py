"""The training loop: how a run begins, trains, keeps checkpoints and ends."""
