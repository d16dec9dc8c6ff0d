"""The pre-norm transformer block.

Letters: B batch, N tokens, D width.
"""

import keras

from keras_vit.layers.attention import Attention
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.mlp import MLP
from keras_vit.layers.regularization import DropPath, LayerScale, drop
from keras_vit.layers.remat import rematerialize
from keras_vit.layers.talking_heads_attention import TalkingHeadsAttention
from keras_vit.layers.validation import check_tokens


@keras.saving.register_keras_serializable(package="keras_vit")
class TransformerBlock(ConfiguredLayer):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        num_heads: int, attention heads; the width of the tokens must be a multiple of it.
        mlp_dim: int, hidden width of the MLP.
        mlp: the MLP's activation (`keras_vit.layers.MLP`).
        qkv_bias: whether the projection to queries, keys and values has a bias.
        qk_norm: whether queries and keys are normalised.
        layer_scale: float, where the factors of the residual branches start, or None for none.
        dropout_rate: float in [0, 1), dropout after the attention's projection and in the MLP.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.
        drop_path_rate: float in [0, 1), probability that a sample skips a residual branch.
        norm_epsilon: float, epsilon of every layer normalisation.
        remat: whether training recomputes the block in the backward pass instead of keeping its
            intermediate results (gradient checkpointing).
        talking_heads: whether the heads are mixed before and after the softmax
            (`TalkingHeadsAttention`), which leaves no place for `qk_norm`.

    Call arguments:
        tokens: float tensor (B, N, D).
        training: whether dropout and drop path are on, and `remat` in effect.

    Returns:
        Tokens (B, N, D).

    Raises:
        ValueError: for a rate outside [0, 1), a width that is no multiple of the heads, another
            rank, both `qk_norm` and `talking_heads`.

    Example:
        >>> TransformerBlock(num_heads=12, mlp_dim=3072)(np.zeros((1, 197, 768))).shape
        (1, 197, 768)

    Sources: Dosovitskiy et al. 2021 (arXiv:2010.11929), equations 2 and 3; Touvron et al. 2021
    (arXiv:2103.17239) for `talking_heads`.
    """

    def __init__(
        self,
        num_heads,
        mlp_dim,
        mlp="gelu",
        qkv_bias=True,
        qk_norm=False,
        layer_scale=None,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        drop_path_rate=0.0,
        norm_epsilon=1e-6,
        remat=False,
        talking_heads=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if qk_norm and talking_heads:
            raise ValueError(
                "Heads that talk are not normalised. Received: qk_norm=True, talking_heads=True"
            )
        self.remat = remat
        self.talking_heads = talking_heads
        layer = {"dtype": self.dtype_policy}
        norm = {"epsilon": norm_epsilon, **layer}

        self.norm1 = keras.layers.LayerNormalization(name="norm1", **norm)
        attention = {
            "qkv_bias": qkv_bias,
            "attention_dropout_rate": attention_dropout_rate,
            "dropout_rate": dropout_rate,
            "name": "attention",
            **layer,
        }
        if talking_heads:
            self.attention = TalkingHeadsAttention(num_heads, **attention)
        else:
            self.attention = Attention(
                num_heads, qk_norm=qk_norm, norm_epsilon=norm_epsilon, **attention
            )
        self.norm2 = keras.layers.LayerNormalization(name="norm2", **norm)
        self.mlp = MLP(mlp_dim, mlp, dropout_rate=dropout_rate, name="mlp", **layer)
        self.layer_scale1 = self.layer_scale2 = None
        if layer_scale is not None:
            self.layer_scale1 = LayerScale(layer_scale, name="layer_scale1", **layer)
            self.layer_scale2 = LayerScale(layer_scale, name="layer_scale2", **layer)
        self.drop_path1 = DropPath(drop_path_rate, name="drop_path1", **layer)
        self.drop_path2 = DropPath(drop_path_rate, name="drop_path2", **layer)

    def build(self, tokens_shape):
        check_tokens(tokens_shape, "TransformerBlock")
        for layer in (self.norm1, self.attention, self.norm2, self.mlp):
            layer.build(tokens_shape)
        if self.layer_scale1 is not None:
            self.layer_scale1.build(tokens_shape)
            self.layer_scale2.build(tokens_shape)

    def call(self, tokens, training=None):
        if self.remat and training:
            return rematerialize(self, lambda x: self._forward(x, training), tokens)
        return self._forward(tokens, training)

    def _forward(self, x, training, scores_offset=None):
        y = self.attention(self.norm1(x), training=training, scores_offset=scores_offset)
        y = y if self.layer_scale1 is None else self.layer_scale1(y)
        x = x + drop(self.drop_path1, y, training)

        y = self.mlp(self.norm2(x), training=training)  # (B, N, D)
        y = y if self.layer_scale2 is None else self.layer_scale2(y)
        return x + drop(self.drop_path2, y, training)

    def attention_scores(self, tokens):
        """The scores that this block gives its input tokens (B, N, D): float32 (B, heads, N, N)."""
        _, scores = self.attention(self.norm1(tokens), return_attention_scores=True)
        return scores

    def call_with_offset(self, tokens, scores_offset):
        """What the block makes of tokens (B, N, D) if its scores (B, heads, N, N) were others.

        Args:
            tokens: tensor (B, N, D).
            scores_offset: what is added to the scores.
        """
        return self._forward(tokens, False, scores_offset)

    def num_scores(self, tokens_shape):
        """How many attention scores one image has here that a fused kernel does not write."""
        if self.talking_heads:
            return 0  # none is fused: they are among the activations
        return self.attention.num_heads * tokens_shape[1] ** 2

    def compute_output_shape(self, tokens_shape):
        return tokens_shape

    def cost(self, tokens_shape):
        _, n, width = tokens_shape
        norms_and_sums = Cost(activations=4 * n * width)
        total = self.attention.cost(tokens_shape) + self.mlp.cost(tokens_shape) + norms_and_sums
        if self.layer_scale1 is not None:
            total += Cost(activations=2 * n * width)
        return total._replace(activations=n * width) if self.remat else total
