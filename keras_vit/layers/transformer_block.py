"""The pre-norm transformer block.

Letters: B batch, N tokens, D width.
"""

import keras

from keras_vit.layers.attention import Attention
from keras_vit.layers.block import Block
from keras_vit.layers.mlp import MLP
from keras_vit.layers.talking_heads_attention import TalkingHeadsAttention
from keras_vit.layers.validation import check_tokens


@keras.saving.register_keras_serializable(package="keras_vit")
class TransformerBlock(Block):
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
        attention_mask, causal: as `keras_vit.layers.Attention` takes them; not with
            `talking_heads`.

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
        super().__init__(remat=remat, **kwargs)
        if qk_norm and talking_heads:
            raise ValueError(
                "Heads that talk are not normalised. Received: qk_norm=True, talking_heads=True"
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
                raise ValueError("Masks are not supported with talking_heads=True.")
            masks = {"attention_mask": attention_mask, "causal": causal}
        return self.checkpointed(lambda x: self.compute(x, training, **masks), tokens, training)

    def num_scores(self, tokens_shape):
        # Heads that talk are never fused: their scores are among the activations.
        return 0 if self.talking_heads else super().num_scores(tokens_shape)
