"""Infers a Pyramid Vision Transformer v2 from tensors and configuration, as the first version."""

from keras_vit.checkpoints.pvt import read as pvt
from keras_vit.checkpoints.pvt_v2.fields import describe as describe

SAID_TWICE, ARITHMETIC, DESCRIBED = pvt.SAID_TWICE, pvt.ARITHMETIC, pvt.DESCRIBED
ASKED, GUESSED = pvt.ASKED, pvt.GUESSED
FIRST_CONVOLUTION, EFFECTS = pvt.FIRST_CONVOLUTION, pvt.EFFECTS
RESAMPLED, ONLY_WITH, REFUSED = pvt.RESAMPLED, pvt.ONLY_WITH, pvt.REFUSED
infer, complete, facts = pvt.infer, pvt.complete, pvt.facts
