"""The object queries, and the heads that read classes and boxes from them.

Letters: B batch, Q queries, D width, K classes.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.tokenwise import linear
from keras_vit.layers.validation import check_count

# As PyTorch initialises linear layers and convolutions: uniform within 1 / sqrt(inputs).
UNIFORM = {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"}


def torch_uniform():
    """The initializer of PyTorch's linear layers."""
    return Initial(keras.initializers.VarianceScaling(**UNIFORM))


class ObjectQueries(ConfiguredLayer):
    """Learned queries, the same for every picture: tokens (B, N, D) -> (B, Q, D).

    Args:
        num_queries: int, Q.

    Call arguments:
        memory: float tensor (B, N, D); only its batch size and width are used.

    Returns:
        list of two tensors (B, Q, D): zeros, which the first block of the decoder starts from, and
        the queries, which every block adds.
    """

    def __init__(self, num_queries, **kwargs):
        super().__init__(**kwargs)
        check_count(num_queries, "num_queries")
        self.num_queries = num_queries

    def build(self, memory_shape):
        self.embeddings = self.add_weight(
            shape=(self.num_queries, memory_shape[-1]),
            initializer=Initial(keras.initializers.RandomNormal(stddev=1.0)),
            name="embeddings",
        )

    def call(self, memory):
        batch, _, width = ops.shape(memory)
        queries = ops.cast(self.embeddings, memory.dtype)
        queries = ops.broadcast_to(queries, (batch, self.num_queries, width))
        return [ops.zeros_like(queries), queries]

    def compute_output_shape(self, memory_shape):
        shape = (memory_shape[0], self.num_queries, memory_shape[-1])
        return [shape, shape]

    def cost(self, memory_shape):
        return Cost()


class BoxHead(ConfiguredLayer):
    """Three linear layers with ReLU in between, and a sigmoid: (B, Q, D) -> boxes (B, Q, 4)."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def build(self, objects_shape):
        width = objects_shape[-1]
        self.fc1, self.fc2, self.fc3 = (
            keras.layers.Dense(
                units, kernel_initializer=torch_uniform(), name=name, dtype=self.dtype_policy
            )
            for name, units in (("fc1", width), ("fc2", width), ("fc3", 4))
        )
        for layer in (self.fc1, self.fc2, self.fc3):
            layer.build(objects_shape)

    def call(self, objects):
        x = ops.relu(linear(self.fc1, objects))
        x = ops.relu(linear(self.fc2, x))
        return ops.sigmoid(linear(self.fc3, x))

    def compute_output_shape(self, objects_shape):
        return (*objects_shape[:-1], 4)

    def cost(self, objects_shape):
        _, n, width = objects_shape
        return sum((dense_cost(n, width, units) for units in (width, width, 4)), Cost())
