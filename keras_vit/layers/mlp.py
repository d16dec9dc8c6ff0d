"""The MLP of a block.

Letters: B batch, N tokens, D width, M hidden width.
"""

import keras
from keras import ops

from keras_vit.layers.activations import activation_function, activation_name
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.regularization import drop
from keras_vit.layers.sublayer import direct
from keras_vit.layers.tokenwise import linear
from keras_vit.layers.validation import check_count, check_rate, check_tokens


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class MLP(ConfiguredLayer):
    """Two linear layers with a nonlinearity between them, applied to each token.

    Args:
        hidden_dim: int, M, width of the hidden layer.
        activation: "gelu" (exact, with the error function), "gelu_tanh" (the tanh approximation,
            Flax's default), "quick_gelu" (x sigmoid(1.702 x), as in CLIP) or "swiglu": `fc1` has
            2M outputs, and SiLU of the first half gates the second half. Also a function of
            `keras.activations`, its name, or a function of your own that is registered with
            `keras.saving.register_keras_serializable`; files contain the name.
        use_bias: bool, whether the linear layers have biases.
        dropout_rate: float in [0, 1), dropout after the activation and after `fc2`.

    Call arguments:
        tokens: float tensor (B, N, D).
        training: bool, whether to apply dropout.

    Returns:
        Tokens (B, N, D).

    Raises:
        ValueError: if the activation is unknown, the rate is outside [0, 1), or the input has
            another rank.

    Example:
        >>> MLP(3072)(np.zeros((1, 197, 768))).shape
        (1, 197, 768)

    Sources: Dosovitskiy et al. 2021 (arXiv:2010.11929), section 3.1; Shazeer 2020
    (arXiv:2002.05202) for SwiGLU.
    """

    def __init__(self, hidden_dim, activation="gelu", use_bias=True, dropout_rate=0.0, **kwargs):
        super().__init__(**kwargs)
        check_count(hidden_dim, "hidden_dim")
        check_rate(dropout_rate, "dropout_rate")
        self.hidden_dim = hidden_dim
        self.activation = activation_name(activation)
        self.use_bias = use_bias
        self.dropout_rate = dropout_rate
        self.fc1_dim = 2 * hidden_dim if self.activation == "swiglu" else hidden_dim
        self.fc1 = self._dense(self.fc1_dim, "fc1")
        self.dropout1 = keras.layers.Dropout(dropout_rate, dtype=self.dtype_policy, name="dropout1")
        self.dropout2 = keras.layers.Dropout(dropout_rate, dtype=self.dtype_policy, name="dropout2")

    def _dense(self, units, name):
        return keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=Initial("glorot_uniform"),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, tokens_shape):
        check_tokens(tokens_shape, "MLP")
        self.fc2 = self._dense(tokens_shape[-1], "fc2")
        self.fc1.build(tokens_shape)
        self.fc2.build((*tokens_shape[:-1], self.hidden_dim))

    def call(self, tokens, training=None):
        x = linear(self.fc1, tokens)  # (B, N, M), or (B, N, 2M) for SwiGLU
        if self.activation == "swiglu":
            gate, x = ops.split(x, 2, axis=-1)
            x = ops.silu(gate) * x  # (B, N, M)
        else:
            x = activation_function(self.activation)(x)
        x = drop(self.dropout1, x, training)
        x = linear(self.fc2, x)  # (B, N, D)
        return drop(self.dropout2, x, training)

    def compute_output_shape(self, tokens_shape):
        return tokens_shape

    def cost(self, tokens_shape):
        _, n, width = tokens_shape
        activation = Cost(activations=n * self.hidden_dim)
        return (
            dense_cost(n, width, self.fc1_dim) + activation + dense_cost(n, self.hidden_dim, width)
        )
