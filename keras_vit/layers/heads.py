"""Pooling of tokens to one vector per image, and the linear layer from there to logits.

Letters: B batch, N tokens (prefix tokens included), D width, H heads, K = D / H.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.attending import Attending
from keras_vit.layers.attention import head_width
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.mlp import MLP
from keras_vit.layers.sublayer import direct, sublayer
from keras_vit.layers.tokenwise import LayerNormalization, linear
from keras_vit.layers.validation import check_choice, check_count, check_tokens
from keras_vit.ops.attention import attend
from keras_vit.ops.shapes import reshape, unstack


class Pooling(ConfiguredLayer):
    """Base class of layers that pool the tokens of an image to one vector.

    `keras_vit.interpret` recognises the pooling of a model by this class.
    """

    @property
    def reads_patches(self):
        """bool, whether the result depends on patch tokens, not only on prefix tokens."""
        return True

    def token_weights(self, n):
        """The weight of each of `n` tokens in the result: float32 array (n,), with sum 1.

        Attention pooling has scores instead (`keras_vit.layers.attending.Attending`).
        """
        raise NotImplementedError


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class TokenPooling(Pooling):
    """Pools tokens to one vector per image: the class token, the mean of the patches, or both.

    Args:
        mode: "token" (one prefix token), "gap" (global average of the patch tokens, without prefix
            tokens) or "token_gap" (both, concatenated).
        num_prefix_tokens: int, number of tokens before the patches.
        token_index: int, index of the prefix token: 0 for the class token, 1 for DeiT's
            distillation token.

    Call arguments:
        tokens: float tensor (B, N, D).

    Returns:
        Tensor (B, D), or (B, 2D) for "token_gap".

    Raises:
        ValueError: if the mode is unknown, or `token_index` is not below `num_prefix_tokens`.

    Example:
        >>> TokenPooling("gap", num_prefix_tokens=1)(np.zeros((1, 197, 768))).shape
        (1, 768)
    """

    def __init__(self, mode="token", num_prefix_tokens=1, token_index=0, **kwargs):
        super().__init__(**kwargs)
        check_choice(mode, "mode", ("token", "gap", "token_gap"))
        check_count(num_prefix_tokens, "num_prefix_tokens", minimum=0)
        check_count(token_index, "token_index", minimum=0)
        if mode != "gap" and num_prefix_tokens == 0:
            raise ValueError(
                f"Pooling by {mode!r} needs a class token; without one use mode='gap' or "
                f"AttentionPooling. Received: mode={mode!r}, num_prefix_tokens=0"
            )
        if mode != "gap" and token_index >= num_prefix_tokens:
            raise ValueError(
                "token_index must be below num_prefix_tokens. "
                f"Received: token_index={token_index}, num_prefix_tokens={num_prefix_tokens}"
            )
        self.mode = mode
        self.num_prefix_tokens = num_prefix_tokens
        self.token_index = token_index

    def call(self, tokens):
        token = tokens[:, self.token_index] if self.mode != "gap" else None  # (B, D)
        if self.mode == "token":
            return token
        mean = ops.mean(tokens[:, self.num_prefix_tokens :], axis=1)  # (B, D)
        return mean if self.mode == "gap" else ops.concatenate([token, mean], axis=-1)

    @property
    def reads_patches(self):
        return self.mode != "token"

    def token_weights(self, n):
        token = np.eye(n, dtype="float32")[self.token_index]
        prefix = self.num_prefix_tokens
        mean = np.where(np.arange(n) < prefix, 0, 1 / (n - prefix)).astype("float32")
        return {"token": token, "gap": mean, "token_gap": (token + mean) / 2}[self.mode]

    def compute_output_shape(self, tokens_shape):
        check_tokens(tokens_shape, "TokenPooling")
        return (tokens_shape[0], tokens_shape[2] * (2 if self.mode == "token_gap" else 1))

    def cost(self, tokens_shape):
        return Cost(activations=self.compute_output_shape(tokens_shape)[1])


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class AttentionPooling(Attending, Pooling):
    """Multi-head attention pooling ("MAP"): a learned query attends to all tokens, then an MLP.

    Args:
        num_heads: int, H; the width of the tokens must be a multiple of it.
        mlp_dim: int, hidden width of the MLP.
        mlp: str, activation of the MLP (`keras_vit.layers.MLP`).
        norm_epsilon: float, epsilon of the layer normalisation before the MLP.

    Call arguments:
        tokens: float tensor (B, N, D).
        return_attention_scores: bool, whether to return the scores (B, H, 1, N) too.
        scores_offset: float tensor of the shape of the scores, added to them, or None. The
            gradient of an offset of zeros is the gradient of the scores.

    Returns:
        Tensor (B, D), or (tensor, float32 scores (B, H, 1, N)).

    Raises:
        ValueError: if the input has another rank, or its width is not a multiple of `num_heads`.

    Example:
        >>> AttentionPooling(16, 4304)(np.zeros((1, 256, 1152))).shape
        (1, 1152)

    Sources: Zhai et al. 2022 (arXiv:2106.04560), section 3.2; big_vision
    `models/vit.py`, `MAPHead`.
    """

    queries = "learned"

    def __init__(self, num_heads, mlp_dim, mlp="gelu", norm_epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        check_count(num_heads, "num_heads")
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.norm_epsilon = norm_epsilon
        layer = {"dtype": self.dtype_policy}
        self.norm = LayerNormalization(epsilon=norm_epsilon, name="norm", **layer)
        self.mlp = MLP(mlp_dim, mlp, name="mlp", **layer)

    def build(self, tokens_shape):
        check_tokens(tokens_shape, "AttentionPooling")
        width = tokens_shape[-1]
        self.head_dim = head_width(width, self.num_heads)
        layer = {"dtype": self.dtype_policy}
        self.probe = self.add_weight(
            shape=(1, width),
            initializer=Initial(keras.initializers.TruncatedNormal(stddev=0.02)),
            name="probe",
        )
        glorot = {"kernel_initializer": Initial("glorot_uniform")}
        self.query = keras.layers.Dense(width, name="query", **glorot, **layer)
        self.key_value = keras.layers.Dense(
            2 * width,
            kernel_initializer=Initial(
                "lecun_uniform"
            ),  # equals Glorot uniform for each (D, D) part
            name="key_value",
            **layer,
        )
        self.proj = keras.layers.Dense(width, name="proj", **glorot, **layer)
        for layer in (self.query, self.proj, self.norm, self.mlp):
            layer.build((None, 1, width))
        self.key_value.build(tokens_shape)

    def call(self, tokens, return_attention_scores=False, scores_offset=None):
        batch, n, width = ops.shape(tokens)
        probe = ops.broadcast_to(ops.cast(self.probe, tokens.dtype), (batch, 1, width))
        q = reshape(linear(self.query, probe), (-1, 1, self.num_heads, self.head_dim))
        kv = reshape(linear(self.key_value, tokens), (-1, n, 2, self.num_heads, self.head_dim))
        k, v = unstack(kv, axis=2)  # (B, N, H, K) each
        x, scores = attend(  # (B, 1, H, K), (B, H, 1, N)
            q, k, v, scores_offset=scores_offset, return_scores=return_attention_scores
        )
        x = linear(self.proj, reshape(x, (-1, 1, width)))  # (B, 1, D)
        x = x + sublayer(self.mlp, sublayer(self.norm, x))
        x = ops.squeeze(x, axis=1)  # (B, D)
        return (x, scores) if return_attention_scores else x

    def attention_scores(self, tokens):
        return self(tokens, return_attention_scores=True)[1]

    def call_with_offset(self, tokens, scores_offset):
        return self(tokens, scores_offset=scores_offset)

    def compute_output_shape(self, tokens_shape):
        return (tokens_shape[0], tokens_shape[2])

    def cost(self, tokens_shape):
        batch, n, width = tokens_shape
        products = Cost(macs=2 * n * width, activations=width)
        query, proj = dense_cost(1, width, width), dense_cost(1, width, width)
        norm_and_sum = Cost(activations=2 * width)
        mlp = self.mlp.cost((batch, 1, width))
        return query + dense_cost(n, width, 2 * width) + products + proj + norm_and_sum + mlp


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class ClassificationHead(ConfiguredLayer):
    """A linear layer to logits. Under mixed precision it is in float32, for an accurate loss.

    Args:
        num_classes: int, C.

    Call arguments:
        features: float tensor (B, D).

    Returns:
        Logits (B, C), in the variable dtype of the dtype policy.

    Example:
        >>> ClassificationHead(1000)(np.zeros((1, 768))).shape
        (1, 1000)
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        check_count(num_classes, "num_classes")
        self.num_classes = num_classes
        self.dense = keras.layers.Dense(
            num_classes,
            kernel_initializer=Initial(keras.initializers.TruncatedNormal(stddev=0.02)),
            dtype=self.variable_dtype,
            name="dense",
        )

    def build(self, features_shape):
        self.dense.build(features_shape)

    def call(self, features):
        return linear(self.dense, features)

    def compute_output_shape(self, features_shape):
        return (*features_shape[:-1], self.num_classes)

    def compute_output_spec(self, features):
        shape = self.compute_output_shape(features.shape)
        return keras.KerasTensor(shape, self.variable_dtype)  # Keras assumes the compute dtype

    def cost(self, features_shape):
        return dense_cost(1, features_shape[-1], self.num_classes)
