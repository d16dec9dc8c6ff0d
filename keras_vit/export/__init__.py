"""Export of models: writes a model, runs the result in its own runtime, and compares the outputs.

`export.py` has the steps, `formats.py` the table of formats, `samples.py` the inputs of the
comparison, `compare.py` the comparison, `report.py` its report, and `serving.py` the model that is
written: with preprocessing, and in another precision, if requested. `tensorflow_formats.py` and
`torch_formats.py` write the formats, each on its backend; `runtimes.py` runs them without Keras.
"""

from keras_vit.export.export import export as export
from keras_vit.export.report import ExportReport as ExportReport
