"""The blocks of DETR's encoder and decoder: post-norm, with positions added to queries and keys.

Letters: B batch, N cells of the map, Q queries, D width.
"""

import math

import keras

from keras_vit.layers.block import Block
from keras_vit.layers.cost import Cost
from keras_vit.layers.cross_attention import CrossAttention
from keras_vit.layers.mlp import MLP
from keras_vit.layers.regularization import drop
from keras_vit.layers.sublayer import direct, sublayer
from keras_vit.layers.tokenwise import LayerNormalization

NORM_EPSILON = 1e-5


class PostNormBlock(Block):
    """Base class: what the blocks of encoder and decoder share.

    Args:
        num_heads: int, number of attention heads.
        mlp_dim: int, hidden width of the MLP.
        mlp: activation of the MLP (`keras_vit.layers.MLP`).
        dropout_rate: float in [0, 1), dropout of each branch and in the MLP.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.
        remat: bool, whether training recomputes the block in the backward pass.
    """

    def __init__(
        self,
        num_heads,
        mlp_dim,
        mlp="relu",
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        remat=False,
        **kwargs,
    ):
        super().__init__(remat=remat, **kwargs)
        part = {"dtype": self.dtype_policy}
        attention = {"attention_dropout_rate": attention_dropout_rate, **part}
        self.add_attention(lambda name: CrossAttention(num_heads, name=name, **attention))
        self.mlp = MLP(mlp_dim, mlp, dropout_rate=dropout_rate, name="mlp", **part)
        self.dropout = keras.layers.Dropout(dropout_rate, name="dropout", **part)
        # Part of every file's name of weights: norm1 follows the first attention, and so on.
        self.norms = [
            LayerNormalization(epsilon=NORM_EPSILON, name=f"norm{i + 1}", **part)
            for i in range(self.num_norms)
        ]

    def cost(self, x_shape, *others):
        total = self.full_cost(x_shape, *others)
        return total._replace(activations=math.prod(x_shape[1:])) if self.remat else total

    def add(self, i, x, y, training):
        """norm_i(x + y), with dropout of y. The dropout of the MLP is in the MLP itself."""
        y = y if i == len(self.norms) - 1 else drop(self.dropout, y, training)
        return sublayer(self.norms[i], x + y)

    def add_mlp(self, x, training):
        """The last branch: norm(x + mlp(x))."""
        return self.add(len(self.norms) - 1, x, sublayer(self.mlp, x, training=training), training)


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class DetrEncoderBlock(PostNormBlock):
    """Post-norm block on the cells of a map: self-attention, then MLP.

    Args:
        num_heads, mlp_dim, mlp, dropout_rate, attention_dropout_rate, remat: as in
            `PostNormBlock`.

    Call arguments:
        tokens: float tensor (B, N, D).
        positions: float tensor (B, N, D) or (1, N, D), added to queries and keys, not to values.
        valid: bool tensor (B, N), True for valid cells; None if all are valid.
        training: bool, whether to apply dropout and `remat`.

    Returns:
        Tokens (B, N, D).

    Source: facebookresearch/detr `models/transformer.py`, `TransformerEncoderLayer`.
    """

    num_norms = 2

    def add_attention(self, make):
        self.attention = make("attention")

    def build(self, tokens_shape, positions_shape=None, valid_shape=None):
        self.attention.build(tokens_shape)
        for layer in (*self.norms, self.mlp):
            layer.build(tokens_shape)

    def call(self, tokens, positions, valid=None, training=None):
        def compute(tokens, positions):
            return self.compute((tokens, positions, valid), training)

        return self.checkpointed(compute, tokens, training, positions)

    def compute(self, x, training=None, **attention):
        tokens, positions, valid = padded(x, 3)
        where = tokens + positions
        y = sublayer(
            self.attention,
            where,
            where,
            tokens,
            training=training,
            attention_mask=keys_mask(valid),
            **attention,
        )
        y = self.add(0, tokens, y, training)
        return self.add_mlp(y, training)

    def attention_scores(self, x):
        tokens, positions, valid = padded(x, 3)
        where = tokens + positions
        return self.attention(
            where, where, tokens, return_attention_scores=True, attention_mask=keys_mask(valid)
        )[1]

    def compute_output_shape(self, tokens_shape, *_):
        return tokens_shape

    def num_scores(self, tokens_shape, *_):
        return self.num_heads * tokens_shape[1] ** 2

    def full_cost(self, tokens_shape, *_):
        _, n, width = tokens_shape
        rest = Cost(activations=5 * n * width)  # norms, sums
        attention = self.attention.cost(tokens_shape, tokens_shape)
        return attention + self.mlp.cost(tokens_shape) + rest


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class DetrDecoderBlock(PostNormBlock):
    """Post-norm block on object queries: self-attention, attention to the picture, MLP.

    Args:
        num_heads, mlp_dim, mlp, dropout_rate, attention_dropout_rate, remat: as in
            `PostNormBlock`.

    Call arguments:
        objects: float tensor (B, Q, D), what is known of the objects; zeros before the first block.
        queries: float tensor (B, Q, D), the learned queries, added like positions.
        memory: float tensor (B, N, D), the output of the encoder.
        positions: float tensor (B, N, D) or (1, N, D), of the cells of the memory.
        valid: bool tensor (B, N), True for valid cells; None if all are valid.
        visible: bool tensor (Q, Q), or (B, Q, Q), True where a query may attend to another;
            None for all.
        training: bool, whether to apply dropout and `remat`.

    Returns:
        Objects (B, Q, D).

    Source: facebookresearch/detr `models/transformer.py`, `TransformerDecoderLayer`.
    """

    num_norms = 3
    queries = "objects"
    others = ("self_attention",)

    def add_attention(self, make):
        self.self_attention = make("self_attention")
        self.cross_attention = make("cross_attention")

    @property
    def num_heads(self):
        return self.cross_attention.num_heads

    def build(
        self,
        objects_shape,
        queries_shape=None,
        memory_shape=None,
        positions_shape=None,
        valid_shape=None,
        visible_shape=None,
    ):
        for layer in (self.self_attention, self.cross_attention, *self.norms, self.mlp):
            layer.build(objects_shape)

    def call(
        self,
        objects,
        queries,
        memory,
        positions,
        valid=None,
        visible=None,
        training=None,
    ):
        def compute(*x):
            return self.compute((*x, valid, visible), training)

        return self.checkpointed(compute, objects, training, queries, memory, positions)

    def compute(self, x, training=None, **attention):
        objects, queries, memory, positions, valid, visible = padded(x, 6)
        y = self._attend_to_objects(objects, queries, visible, training=training)
        objects = self.add(0, objects, y, training)
        y = self._attend_to_picture(
            objects, queries, memory, positions, valid, training=training, **attention
        )
        objects = self.add(1, objects, y, training)
        return self.add_mlp(objects, training)

    def _attend_to_objects(self, objects, queries, visible, **kwargs):
        where = objects + queries
        if visible is not None:
            visible = visible[None, None] if len(visible.shape) == 2 else visible[:, None]
        return sublayer(
            self.self_attention, where, where, objects, attention_mask=visible, **kwargs
        )

    def _attend_to_picture(self, objects, queries, memory, positions, valid, **kwargs):
        return sublayer(
            self.cross_attention,
            objects + queries,
            memory + positions,
            memory,
            attention_mask=keys_mask(valid),
            **kwargs,
        )

    def attention_scores(self, x, attention="cross_attention"):
        """The scores of the queries over the picture, or over each other ("self_attention")."""
        objects, queries, memory, positions, valid, visible = padded(x, 6)
        scores = {"training": False, "return_attention_scores": True}
        y, found = self._attend_to_objects(objects, queries, visible, **scores)
        if attention == "self_attention":
            return found
        objects = self.add(0, objects, y, False)
        return self._attend_to_picture(objects, queries, memory, positions, valid, **scores)[1]

    def compute_output_shape(self, objects_shape, *_):
        return objects_shape

    def num_scores(self, objects_shape, queries_shape, memory_shape, *_):
        n, cells = objects_shape[1], memory_shape[1]
        return self.num_heads * n * (n + cells)

    def full_cost(self, objects_shape, queries_shape, memory_shape, *_):
        _, n, width = objects_shape
        rest = Cost(activations=8 * n * width + memory_shape[1] * width)  # norms, sums
        return (
            self.self_attention.cost(objects_shape, objects_shape)
            + self.cross_attention.cost(objects_shape, memory_shape)
            + self.mlp.cost(objects_shape)
            + rest
        )


def padded(x, length):
    """A tuple of inputs, with None for masks that are not given."""
    return (*x, *[None] * (length - len(x)))


def keys_mask(mask):
    """A padding mask (B, N) as the attention takes it, (B, 1, 1, N)."""
    return None if mask is None else mask[:, None, None]
