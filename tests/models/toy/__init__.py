"""A family that only a test registers: what a new one consists of, at its smallest.

`model.py` has the model; `names.py`, `read.py` and `write.py` are the package that reads and writes
its checkpoints, as `keras_vit.checkpoints.families` describes it.
"""
