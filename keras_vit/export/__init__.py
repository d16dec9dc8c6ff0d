"""Shipping a model: write it, run what was written in its own runtime, compare, then say done.

`export.py` has the order of things, `formats.py` the table of formats, `samples.py` what is
compared on, `report.py` how, `serving.py` what is written: the model, with preprocessing and in
another precision where that is asked for. The writers need a backend each; `runtimes.py` runs what
they wrote, without Keras.
"""

from keras_vit.export.export import export as export
from keras_vit.export.report import ExportReport as ExportReport
