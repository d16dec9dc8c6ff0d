"""The MLP with a depthwise convolution.

Letters: B batch, h x w grid, D width, M hidden width.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.overlapping_patch_embedding import he_normal_of_outputs
from keras_vit.layers.regularization import drop
from keras_vit.layers.sublayer import direct
from keras_vit.layers.tokenwise import linear
from keras_vit.layers.validation import check_count, check_grid, check_rate
from keras_vit.ops.depthwise import depthwise, faster_shifted
from keras_vit.ops.gradients import gelu


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class ConvolutionalMLP(ConfiguredLayer):
    """Two linear layers with a depthwise 3 x 3 convolution and GELU between them.

    The zero padding of the convolution encodes positions, so the model needs no position embedding.

    Args:
        hidden_dim: int, M, width of the hidden layer.
        relu: bool, whether there is a ReLU between the first linear layer and the convolution (PVT
            v2 with linear attention).
        dropout_rate: float in [0, 1), dropout after the activation and after `fc2`.

    Call arguments:
        grid: float tensor (B, h, w, D).
        training: bool, whether to apply dropout.

    Returns:
        Feature map (B, h, w, D).

    Raises:
        ValueError: if the rate is outside [0, 1), or the input has another rank.

    Example:
        >>> ConvolutionalMLP(512)(np.zeros((1, 56, 56, 64))).shape
        (1, 56, 56, 64)

    Source: Wang et al. 2022 (arXiv:2106.13797), section 3.4.
    """

    def __init__(self, hidden_dim, relu=False, dropout_rate=0.0, **kwargs):
        super().__init__(**kwargs)
        check_count(hidden_dim, "hidden_dim")
        check_rate(dropout_rate, "dropout_rate")
        self.hidden_dim = hidden_dim
        self.relu = relu
        self.dropout_rate = dropout_rate
        layer = {"dtype": self.dtype_policy}
        self.fc1 = self._dense(hidden_dim, "fc1")
        self.depthwise = keras.layers.DepthwiseConv2D(
            3,
            padding="same",  # symmetric at stride 1
            data_format="channels_last",
            depthwise_initializer=he_normal_of_outputs(),
            name="depthwise",
            **layer,
        )
        self.dropout1 = keras.layers.Dropout(dropout_rate, name="dropout1", **layer)
        self.dropout2 = keras.layers.Dropout(dropout_rate, name="dropout2", **layer)

    def _dense(self, units, name):
        return keras.layers.Dense(
            units,
            kernel_initializer=Initial("glorot_uniform"),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, grid_shape):
        check_grid(grid_shape, 1, "ConvolutionalMLP")
        hidden_shape = (None, None, None, self.hidden_dim)
        self.fc2 = self._dense(grid_shape[-1], "fc2")
        self.fc1.build((None, None, None, grid_shape[-1]))
        self.depthwise.build(hidden_shape)
        self.fc2.build(hidden_shape)

    def call(self, grid, training=None):
        x = linear(self.fc1, grid)  # (B, h, w, M)
        x = ops.relu(x) if self.relu else x
        x = gelu(self._convolved(x))
        x = drop(self.dropout1, x, training)
        x = linear(self.fc2, x)  # (B, h, w, D)
        return drop(self.dropout2, x, training)

    def _convolved(self, x):
        layer = self.depthwise
        usual = type(layer) is keras.layers.DepthwiseConv2D and "call" not in vars(layer)
        if not usual or not faster_shifted():
            return layer(x)
        return depthwise(x, layer.kernel) + ops.cast(layer.bias, x.dtype)

    def compute_output_shape(self, grid_shape):
        return grid_shape

    def cost(self, grid_shape):
        _, h, w, width = grid_shape
        n, hidden = h * w, self.hidden_dim
        depthwise = Cost(macs=9 * n * hidden, activations=n * hidden)
        activations = Cost(activations=n * hidden * (2 if self.relu else 1))
        return dense_cost(n, width, hidden) + depthwise + activations + dense_cost(n, hidden, width)
