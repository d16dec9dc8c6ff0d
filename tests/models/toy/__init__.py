"""The smallest family, which only a test registers, as an example of a new family.

`model.py` has the model; `names.py`, `read.py` and `write.py` are the package that reads and writes
its checkpoints, as described in `keras_vit.checkpoints.families`.
"""
