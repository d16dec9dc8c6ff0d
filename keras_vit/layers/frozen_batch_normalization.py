"""Batch normalisation with fixed statistics, scale and offset.

Letters: C channels.
"""

from keras_vit.layers.batch_normalization import BatchNormalization
from keras_vit.layers.validation import check_choice

# "learning": the layer normalises with the statistics of the batch in training, and learns scale
# and offset. "frozen": it is a fixed scale and offset of each channel.
BATCH_NORMS = ("learning", "frozen")


class FrozenBatchNormalization(BatchNormalization):
    """Batch normalisation whose weights are neither trained nor updated.

    It computes what `BatchNormalization` computes at inference, in training too. Detectors use it
    with pre-trained backbones, because their batches are too small for new statistics. Its weights
    are not trainable whatever `trainable` says.

    For layers within others, whose class no file names.
    """

    def build(self, input_shape):
        initial = {"gamma": "ones", "beta": "zeros", "moving_mean": "zeros"}
        for name, initializer in {**initial, "moving_variance": "ones"}.items():
            weight = self.add_weight(
                shape=(input_shape[-1],),
                initializer=initializer,
                trainable=False,
                autocast=False,
                name=name,
            )
            setattr(self, name, weight)

    def call(self, inputs, training=None):
        return super().call(inputs, training=False)


def batch_normalization(kind, gamma_initializer="ones", **kwargs):
    """Returns a batch normalisation of the given kind.

    Args:
        kind: "learning" or "frozen", see `BATCH_NORMS`.
        gamma_initializer: initializer of the scale of one that learns. The scale of a frozen one
            stays what it is, so it starts at 1.
        **kwargs: further arguments of the layer, such as `name` and `dtype`.

    Raises:
        ValueError: for another kind.
    """
    check_choice(kind, "batch_norm", BATCH_NORMS)
    if kind == "frozen":
        return FrozenBatchNormalization(**kwargs)
    return BatchNormalization(gamma_initializer=gamma_initializer, **kwargs)
