"""Noisy copies of the objects as further queries, in training alone (DN-DETR).

Li et al. 2022 (arXiv:2203.01305). The authors use it with boxes as queries; here the queries are
vectors, so box and label are embedded as such, as in the appendix of the paper.

Letters: B batch, M objects of a picture at most, P copies, D width, K classes.
"""

import math

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.tokenwise import linear
from keras_vit.tasks.detr.heads import torch_uniform
from keras_vit.tasks.detr.positions import sine_embedding

COPIES = 5
BOX_NOISE = 0.4  # of width and height
LABEL_NOISE = 0.2  # probability of another label


class NoisyObjects(ConfiguredLayer):
    """Queries made of objects with noise: boxes moved and scaled, labels changed.

    Args:
        num_classes: int, K.
        width: int, D.
        copies: int, P.

    Call arguments:
        boxes: float tensor (B, M, 4), centre x, centre y, width, height, in 0..1.
        labels: int tensor (B, M).

    Returns:
        list of two tensors (B, P*M, D): what the first block of the decoder starts from, made of
        the labels, and the queries, made of the boxes.
    """

    def __init__(self, num_classes, width, copies=COPIES, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.width = width
        self.copies = copies
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, boxes_shape=None, labels_shape=None):
        self.labels = self.add_weight(
            shape=(self.num_classes, self.width),
            initializer=Initial(keras.initializers.RandomNormal(stddev=1.0)),
            name="labels",
        )
        self.fc1, self.fc2 = (
            keras.layers.Dense(
                self.width, kernel_initializer=torch_uniform(), name=name, dtype=self.dtype_policy
            )
            for name in ("fc1", "fc2")
        )
        self.fc1.build((None, None, 2 * self.width))
        self.fc2.build((None, None, self.width))

    def call(self, boxes, labels):
        boxes, labels = self.noisy(boxes, labels)
        objects = ops.take(ops.cast(self.labels, self.compute_dtype), labels, axis=0)
        places = sine_embedding(boxes * (2 * math.pi), self.width // 2)  # (B, P*M, 4, D/2)
        b, n, _, half = ops.shape(places)
        places = ops.cast(ops.reshape(places, (b, n, 4 * half)), self.compute_dtype)
        return [objects, linear(self.fc2, ops.relu(linear(self.fc1, places)))]

    def noisy(self, boxes, labels):
        """P copies of boxes and labels, one after the other, with noise."""
        boxes = ops.tile(ops.cast(boxes, "float32"), [1, self.copies, 1])  # (B, P*M, 4)
        labels = ops.tile(labels, [1, self.copies])  # (B, P*M)
        size = boxes[..., 2:]
        drawn = keras.random.uniform(ops.shape(boxes), -1, 1, "float32", self.seed_generator)
        moved = boxes[..., :2] + drawn[..., :2] * BOX_NOISE * size / 2
        boxes = ops.concatenate([moved, size * (1 + BOX_NOISE * drawn[..., 2:])], axis=-1)
        shape = ops.shape(labels)
        other = keras.random.randint(shape, 0, self.num_classes, "int32", self.seed_generator)
        change = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        return ops.clip(boxes, 0.0, 1.0), ops.where(change < LABEL_NOISE, other, labels)

    def compute_output_shape(self, boxes_shape, labels_shape=None):
        n = boxes_shape[1]
        shape = (boxes_shape[0], None if n is None else n * self.copies, self.width)
        return [shape, shape]

    def cost(self, boxes_shape, labels_shape=None):
        return Cost()
