"""What the blocks of all families share.

Letters: B batch, N tokens, D width, H heads.
"""

import math

import keras

from keras_vit.layers.attending import Attending
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.regularization import DropPath, LayerScale, drop
from keras_vit.layers.remat import rematerialize


class Block(Attending, ConfiguredLayer):
    """Base class of blocks: x + attention(norm(x)), then x + mlp(norm(x)), on tokens.

    `feature_model`, `attention_maps`, `attention_rollout`, `grad_cam`, `complexity`, layer-wise
    learning rates and LoRA find the blocks of a model by this class. A subclass makes its attention
    and its MLP, and hands them to `add_branches`; the arguments of its constructor are recorded and
    become its configuration. What is different from a pre-norm block on tokens it overrides:

    - `compute`: what the block computes.
    - `attention_scores`, `queries`, `scores_on_grid`, `query_grid`, `head_axis`: what its scores
      are and how they lie on the image (`keras_vit.layers.attending.Attending`).
    - `build`, `num_scores` and `full_cost`: shapes, and work for `complexity`.

    Args:
        remat: whether training recomputes the block in the backward pass instead of keeping its
            intermediate results (gradient checkpointing).

    Call arguments:
        tokens: float tensor (B, N, D).
        training: whether dropout and drop path are on, and `remat` in effect.

    Returns:
        Tensor of the input's shape.

    Example:
        >>> @keras.saving.register_keras_serializable(package="mine")
        ... class MyBlock(keras_vit.layers.Block):
        ...     def __init__(self, num_heads, mlp_dim, drop_path_rate=0.0, **kwargs):
        ...         super().__init__(**kwargs)
        ...         part = {"dtype": self.dtype_policy}
        ...         self.add_branches(
        ...             keras_vit.layers.Attention(num_heads, name="attention", **part),
        ...             keras_vit.layers.MLP(mlp_dim, name="mlp", **part),
        ...             drop_path_rate=drop_path_rate,
        ...         )
        >>> MyBlock(12, 3072)(np.zeros((1, 197, 768))).shape
        (1, 197, 768)
    """

    def __init__(self, remat=False, **kwargs):
        super().__init__(**kwargs)
        self.remat = remat

    def add_branches(
        self,
        attention,
        mlp,
        layer_scale=None,
        drop_path_rate=0.0,
        norm_epsilon=1e-6,
        gamma_initializer="ones",
    ):
        """Sets the layers of both branches, to be called in the constructor.

        Args:
            attention, mlp: layers named "attention" and "mlp". `attention` has `num_heads` and
                takes `return_attention_scores`.
            layer_scale: float, where the factors of the branches start, or None for none.
            drop_path_rate: float in [0, 1), probability that a sample skips a branch.
            norm_epsilon: float, epsilon of both layer normalisations.
            gamma_initializer: of both layer normalisations.
        """
        layer = {"dtype": self.dtype_policy}
        norm = {"epsilon": norm_epsilon, "gamma_initializer": gamma_initializer, **layer}
        self.norm1 = keras.layers.LayerNormalization(name="norm1", **norm)
        self.attention = attention
        self.norm2 = keras.layers.LayerNormalization(name="norm2", **norm)
        self.mlp = mlp
        self.layer_scale1 = self.layer_scale2 = None
        if layer_scale is not None:
            self.layer_scale1 = LayerScale(layer_scale, name="layer_scale1", **layer)
            self.layer_scale2 = LayerScale(layer_scale, name="layer_scale2", **layer)
        self.drop_path1 = DropPath(drop_path_rate, name="drop_path1", **layer)
        self.drop_path2 = DropPath(drop_path_rate, name="drop_path2", **layer)

    @property
    def num_heads(self):
        return self.attention.num_heads

    def build(self, tokens_shape):
        for layer in (self.norm1, self.attention, self.norm2, self.mlp):
            layer.build(tokens_shape)
        if self.layer_scale1 is not None:
            self.layer_scale1.build(tokens_shape)
            self.layer_scale2.build(tokens_shape)

    def call(self, tokens, training=None):
        return self.checkpointed(lambda x: self.compute(x, training), tokens, training)

    def checkpointed(self, function, x, training):
        """`function(x)`, recomputed in the backward pass where `remat` says so."""
        return rematerialize(self, function, x) if self.remat and training else function(x)

    def compute(self, x, training=None, **attention):
        """What the block computes (`forward` is PyTorch's name for something else).

        Args:
            x: its input.
            training: whether dropout and drop path are on.
            **attention: further arguments of the attention, such as `scores_offset`.
        """
        y = self.attention(self.norm1(x), training=training, **attention)
        x = x + self.scaled(1, y, training)
        y = self.mlp(self.norm2(x), training=training)
        return x + self.scaled(2, y, training)

    def scaled(self, branch, y, training):
        """What branch 1 (attention) or 2 (MLP) adds: its result, scaled, or dropped."""
        scale = self.layer_scale1 if branch == 1 else self.layer_scale2
        drop_path = self.drop_path1 if branch == 1 else self.drop_path2
        return drop(drop_path, y if scale is None else scale(y), training)

    def attention_scores(self, x):
        return self.attention(self.norm1(x), return_attention_scores=True)[1]

    def call_with_offset(self, x, scores_offset):
        return self.compute(x, False, scores_offset=scores_offset)

    def compute_output_shape(self, tokens_shape):
        return tokens_shape

    def num_scores(self, x_shape):
        """How many attention scores one image has here that a fused kernel does not write."""
        return self.num_heads * x_shape[1] ** 2

    def cost(self, x_shape):
        """`keras_vit.layers.cost.Cost` of one image; with `remat` only the output is kept."""
        total = self.full_cost(x_shape)
        return total._replace(activations=math.prod(x_shape[1:])) if self.remat else total

    def full_cost(self, x_shape):
        """The cost without `remat`."""
        size = math.prod(x_shape[1:])
        rest = Cost(activations=(4 if self.layer_scale1 is None else 6) * size)  # norms, sums
        return self.attention.cost(x_shape) + self.mlp.cost(x_shape) + rest
