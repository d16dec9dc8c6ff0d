"""`Block`, the base class of the transformer blocks of all families, and `BaseBlock` of all blocks.

Letters: B batch, N tokens, D width, H heads.
"""

import math

from keras_vit.layers.attending import Attending
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.regularization import DropPath, LayerScale, drop
from keras_vit.layers.remat import rematerialize
from keras_vit.layers.sublayer import sublayer
from keras_vit.layers.tokenwise import LayerNormalization


class BaseBlock(ConfiguredLayer):
    """Base class of the blocks of all families, with attention or without.

    `feature_model` and layer-wise learning rates recognise the blocks of a model by this class. The
    blocks of a hybrid's CNN are not among them: there the blocks are those of the transformer.

    Args:
        remat: bool, whether training recomputes the block in the backward pass instead of keeping
            its intermediate results (gradient checkpointing).
    """

    def __init__(self, remat=False, **kwargs):
        super().__init__(**kwargs)
        self.remat = remat

    def checkpointed(self, function, x, training, *others):
        """`function(x, *others)`, recomputed in the backward pass if `remat` and `training`."""
        if self.remat and training:
            return rematerialize(self, function, x, *others)
        return function(x, *others)

    def cost(self, *shapes):
        """`keras_vit.layers.cost.Cost` per image; with `remat` only the output is kept.

        Args:
            shapes: the shape of each input.
        """
        total = self.full_cost(*shapes)
        if not self.remat:
            return total
        return total._replace(activations=math.prod(self.compute_output_shape(*shapes)[1:]))

    def full_cost(self, *shapes):
        """The cost without `remat`."""
        raise NotImplementedError


class Block(Attending, BaseBlock):
    """Base class of blocks: x + attention(norm(x)), then x + mlp(norm(x)), on tokens.

    `attention_maps`, `attention_rollout`, `grad_cam`, `complexity` and LoRA recognise the
    transformer blocks of a model by this class. The constructor of a subclass creates the attention
    and the MLP and passes them to `add_branches`; its arguments are recorded for `get_config`. A
    block that differs from a pre-norm block on tokens overrides:

    - `compute`: the computation.
    - `attention_scores`, `queries`, `scores_on_grid`, `query_grid`, `head_axis`: its scores and
      their position in the image (`keras_vit.layers.attending.Attending`).
    - `build`, `num_scores` and `full_cost`: shapes, and the cost for `complexity`.

    Args:
        remat: bool, whether training recomputes the block in the backward pass instead of keeping
            its intermediate results (gradient checkpointing).

    Call arguments:
        tokens: float tensor (B, N, D).
        training: bool, whether to apply dropout, drop path and `remat`.

    Returns:
        Tensor of the same shape as the input.

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

    def add_branches(
        self,
        attention,
        mlp,
        layer_scale=None,
        drop_path_rate=0.0,
        norm_epsilon=1e-6,
        gamma_initializer="ones",
    ):
        """Creates the layers of both residual branches. Call it in the constructor.

        Args:
            attention: layer named "attention", with an attribute `num_heads` and a call argument
                `return_attention_scores`.
            mlp: layer named "mlp".
            layer_scale: float, initial value of LayerScale, or None for no LayerScale.
            drop_path_rate: float in [0, 1), probability of dropping a branch for a sample.
            norm_epsilon: float, epsilon of both layer normalisations.
            gamma_initializer: initializer of the scale of both layer normalisations.
        """
        layer = {"dtype": self.dtype_policy}
        norm = {"epsilon": norm_epsilon, "gamma_initializer": gamma_initializer, **layer}
        self.norm1 = LayerNormalization(name="norm1", **norm)
        self.attention = attention
        self.norm2 = LayerNormalization(name="norm2", **norm)
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

    def compute(self, x, training=None, **attention):
        """The computation of the block. (`forward` has another meaning in PyTorch.)

        Args:
            x: the block's input.
            training: bool, whether to apply dropout and drop path.
            **attention: further call arguments of the attention, such as `scores_offset`.

        Returns:
            Tensor of the same shape as the input.
        """
        y = sublayer(self.norm1, x)
        y = sublayer(self.attention, y, training=training, **attention)
        x = x + self.scaled(1, y, training)
        y = sublayer(self.mlp, sublayer(self.norm2, x), training=training)
        return x + self.scaled(2, y, training)

    def scaled(self, branch, y, training):
        """The output `y` of branch 1 (attention) or 2 (MLP) after LayerScale and drop path."""
        scale = self.layer_scale1 if branch == 1 else self.layer_scale2
        drop_path = self.drop_path1 if branch == 1 else self.drop_path2
        return drop(drop_path, y if scale is None else sublayer(scale, y), training)

    def attention_scores(self, x):
        return self.attention(self.norm1(x), return_attention_scores=True)[1]

    def call_with_offset(self, x, scores_offset):
        return self.compute(x, False, scores_offset=scores_offset)

    def compute_output_shape(self, tokens_shape):
        return tokens_shape

    def num_scores(self, x_shape):
        """Number of attention scores per image that a fused kernel does not write to memory."""
        return self.num_heads * x_shape[1] ** 2

    def full_cost(self, x_shape):
        size = math.prod(x_shape[1:])
        rest = Cost(activations=(4 if self.layer_scale1 is None else 6) * size)  # norms, sums
        return self.attention.cost(x_shape) + self.mlp.cost(x_shape) + rest
