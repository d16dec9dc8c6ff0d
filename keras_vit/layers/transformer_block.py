"""The pre-norm transformer block.

Letters: B batch, N tokens, D width.
"""

import keras

from keras_vit.layers.attention import Attention
from keras_vit.layers.block import Block
from keras_vit.layers.mlp import MLP
from keras_vit.layers.sublayer import direct
from keras_vit.layers.talking_heads_attention import TalkingHeadsAttention
from keras_vit.layers.validation import check_tokens


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class TransformerBlock(Block):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        num_heads: int, number of attention heads; the width of the tokens must be a multiple of it.
        mlp_dim: int, hidden width of the MLP.
        mlp: str, activation of the MLP (`keras_vit.layers.MLP`).
        qkv_bias: bool, whether the projection to queries, keys and values has a bias.
        qk_norm: bool, whether queries and keys are normalised.
        layer_scale: float, initial value of LayerScale, or None for no LayerScale.
        dropout_rate: float in [0, 1), dropout after the attention and in the MLP.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.
        drop_path_rate: float in [0, 1), probability of dropping a residual branch for a sample.
        norm_epsilon: float, epsilon of every layer normalisation.
        remat: bool, whether training recomputes the block in the backward pass instead of keeping
            its intermediate results (gradient checkpointing).
        talking_heads: bool, whether the heads are mixed before and after the softmax
            (`TalkingHeadsAttention`); not together with `qk_norm`.

    Call arguments:
        tokens: float tensor (B, N, D).
        training: bool, whether to apply dropout, drop path and `remat`.
        attention_mask, causal: call arguments of `keras_vit.layers.Attention`; not together with
            `talking_heads`.

    Returns:
        Tokens (B, N, D).

    Raises:
        ValueError: if a rate is outside [0, 1), the input has another rank or a width that is not a
            multiple of `num_heads`, or `talking_heads` is used with `qk_norm` or a mask.

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
        super().__init__(remat=remat, **kwargs)
        if qk_norm and talking_heads:
            raise ValueError(
                "qk_norm is not supported with talking_heads: use one of them. "
                "Received: qk_norm=True, talking_heads=True"
            )
        self.talking_heads = talking_heads
        layer = {"dtype": self.dtype_policy}
        attention = {
            "qkv_bias": qkv_bias,
            "attention_dropout_rate": attention_dropout_rate,
            "dropout_rate": dropout_rate,
            "name": "attention",
            **layer,
        }
        if talking_heads:
            attention = TalkingHeadsAttention(num_heads, **attention)
        else:
            attention = Attention(
                num_heads, qk_norm=qk_norm, norm_epsilon=norm_epsilon, **attention
            )
        mlp = MLP(mlp_dim, mlp, dropout_rate=dropout_rate, name="mlp", **layer)
        self.add_branches(attention, mlp, layer_scale, drop_path_rate, norm_epsilon)

    def build(self, tokens_shape):
        check_tokens(tokens_shape, "TransformerBlock")
        super().build(tokens_shape)

    def call(self, tokens, training=None, attention_mask=None, causal=False):
        masks = {}
        if attention_mask is not None or causal:
            if self.talking_heads:
                raise ValueError(
                    "Masks are not supported with talking_heads=True: call the block without "
                    "attention_mask and causal. Received: "
                    f"attention_mask={'None' if attention_mask is None else 'a mask'}, "
                    f"causal={causal}"
                )
            masks = {"attention_mask": attention_mask, "causal": causal}
        return self.checkpointed(lambda x: self.compute(x, training, **masks), tokens, training)

    def num_scores(self, tokens_shape):
        # Talking heads are never fused: `TalkingHeadsAttention.cost` counts their scores.
        return 0 if self.talking_heads else super().num_scores(tokens_shape)
