"""What `keras_vit.checkpoints.task_file` has to know of a SimMIM; it is read by Keras."""

from keras_vit.checkpoints.mae.read import OF_CLASSIFIERS as OF_CLASSIFIERS

SAID_TWICE, ASKED, GUESSED = (), (), ()
ARITHMETIC, DESCRIBED = frozenset(), frozenset()
EFFECTS, RESAMPLED, ONLY_WITH, REFUSED = {}, {}, {}, {}
