"""SETR's decoders: naive upsampling, progressive upsampling (PUP), multi-level aggregation (MLA).

The paper's figure 1 (b) and (c). All give logits that are smaller than the image, which
`ResizeToImage` resizes. `convention` in `keras_vit.SETR` says where the authors' code and
mmsegmentation differ.

Letters: B batch, H x W image size, h x w grid of patches, D width of the encoder, F width of the
decoder, K classes.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.tokenwise import LayerNormalization
from keras_vit.models.layout import TokenLayout
from keras_vit.ops.resample import resize_map
from keras_vit.tasks.setr.convolutions import NormalizedConvolution, classifier

NORM_EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="keras_vit")
class UpsamplingDecoder(ConfiguredLayer):
    """Normalises a map, then convolves and upsamples it step by step, and classifies its positions.

    With one convolution of kernel size 1 and no upsampling this is the naive decoder, with four of
    kernel size 3 and upsampling by 2 in between the progressive one.

    Args:
        num_classes: int, K.
        width: int, F.
        kernel_size: int, kernel size of the convolutions.
        scales: tuple of int, one for each convolution, by how much the map is upsampled after it.
        use_bias: bool, whether the convolutions have biases (the classifier always has one).

    Call arguments:
        grid: float tensor (B, h, w, D).

    Returns:
        float32 logits (B, s*h, s*w, K), where s is the product of `scales`.
    """

    def __init__(self, num_classes, width, kernel_size, scales, use_bias=True, **kwargs):
        super().__init__(**kwargs)
        self.scales = tuple(scales)
        part = {"dtype": self.dtype_policy}
        self.norm = LayerNormalization(epsilon=NORM_EPSILON, name="norm", **part)
        self.convs = [
            NormalizedConvolution(width, kernel_size, use_bias, name=f"conv{i}", **part)
            for i in range(len(self.scales))
        ]
        self.classifier = classifier(num_classes, dtype=self.variable_dtype)

    def build(self, grid_shape):
        self.norm.build(grid_shape)
        for conv in self.convs:
            conv.build(grid_shape)
            grid_shape = conv.compute_output_shape(grid_shape)
        self.classifier.build(grid_shape)

    def call(self, grid, training=None):
        x = self.norm(grid)
        for conv, scale in zip(self.convs, self.scales, strict=True):
            x = upsample(conv(x, training=training), scale)  # (B, s*h, s*w, F)
        return self.classifier(x)  # (B, s*h, s*w, K)

    def compute_output_spec(self, grid, training=None):
        shape = grid.shape
        for scale in self.scales:
            shape = upsampled(shape, scale)
        return keras.KerasTensor((*shape[:-1], self.classifier.filters), self.variable_dtype)

    def cost(self, grid_shape):
        cost = Cost(activations=grid_shape[1] * grid_shape[2] * grid_shape[3])
        for conv, scale in zip(self.convs, self.scales, strict=True):
            cost += conv.cost(grid_shape)
            grid_shape = upsampled(conv.compute_output_shape(grid_shape), scale)
        return cost + self.classifier.cost(grid_shape)


@keras.saving.register_keras_serializable(package="keras_vit")
class MultiLevelAggregation(ConfiguredLayer):
    """MLA's first half: maps of several layers, added up from the deepest to the shallowest.

    Args:
        width: int, F.

    Call arguments:
        grids: list of float tensors (B, h, w, D), the shallowest layer first. Those of a pyramid
            differ in h, w and D; they are resized to the first.

    Returns:
        list of as many maps (B, h, w, F).
    """

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.norms, self.projections, self.extractions = [], [], []

    def build(self, grids_shape):
        part = {"dtype": self.dtype_policy}
        for i, shape in enumerate(grids_shape):
            norm = LayerNormalization(epsilon=NORM_EPSILON, name=f"norm{i}", **part)
            project = NormalizedConvolution(self.width, 1, name=f"project{i}", **part)
            extract = NormalizedConvolution(self.width, 3, name=f"extract{i}", **part)
            norm.build(shape)
            project.build(shape)
            extract.build(project.compute_output_shape(shape))
            self.norms.append(norm)
            self.projections.append(project)
            self.extractions.append(extract)

    def call(self, grids, training=None):
        _, h, w, _ = ops.shape(grids[0])
        projected = [
            resize_map(project(norm(grid), training=training), (h, w))  # (B, h, w, F)
            for norm, project, grid in zip(self.norms, self.projections, grids, strict=True)
        ]
        sums = [projected[-1]]
        for grid in projected[-2::-1]:  # from the second deepest to the shallowest
            sums.insert(0, sums[0] + grid)
        return [
            extract(x, training=training) for extract, x in zip(self.extractions, sums, strict=True)
        ]

    def compute_output_shape(self, grids_shape):
        return [(*grids_shape[0][:3], self.width) for _ in grids_shape]

    def cost(self, *grids_shape):
        finest, total = (*grids_shape[0][:3], self.width), Cost()
        for shape, project, extract in zip(
            grids_shape, self.projections, self.extractions, strict=True
        ):
            total += Cost(activations=shape[1] * shape[2] * shape[3])
            total += project.cost(shape) + extract.cost(finest)
        return total


@keras.saving.register_keras_serializable(package="keras_vit")
class MultiLevelDecoder(ConfiguredLayer):
    """MLA's second half: each map is convolved twice and upsampled by 4, then all are classified.

    Args:
        num_classes: int, K.
        width: int, channels of each convolution.
        kernel_size: int, kernel size of the classifier.
        align_corners: bool, how the maps are upsampled (`keras_vit.ops.resample.resize_map`).
        deepest_first: bool, whether the classifier reads the channels of the deepest map first.

    Call arguments:
        grids: list of float tensors (B, h, w, F), the shallowest layer first.

    Returns:
        float32 logits (B, 4h, 4w, K).
    """

    scale = 4

    def __init__(
        self, num_classes, width, kernel_size, align_corners, deepest_first=False, **kwargs
    ):
        super().__init__(**kwargs)
        self.width = width
        self.align_corners = align_corners
        self.deepest_first = deepest_first
        self.first, self.second = [], []  # convolutions of each level
        self.classifier = classifier(num_classes, kernel_size, dtype=self.variable_dtype)

    def build(self, grids_shape):
        part = {"dtype": self.dtype_policy}
        for i, shape in enumerate(grids_shape):
            for name, convs in (("first", self.first), ("second", self.second)):
                conv = NormalizedConvolution(self.width, 3, name=f"{name}{i}", **part)
                conv.build(shape)
                shape = conv.compute_output_shape(shape)
                convs.append(conv)
        self.classifier.build((*grids_shape[0][:3], self.width * len(grids_shape)))

    def call(self, grids, training=None):
        maps = []
        for first, second, grid in zip(self.first, self.second, grids, strict=True):
            x = second(first(grid, training=training), training=training)  # (B, h, w, F)
            maps.append(upsample(x, self.scale, self.align_corners))  # (B, 4h, 4w, F)
        return self.classifier(ops.concatenate(maps[::-1] if self.deepest_first else maps, axis=-1))

    def compute_output_spec(self, grids, training=None):
        shape = upsampled(grids[0].shape, self.scale)
        return keras.KerasTensor((*shape[:-1], self.classifier.filters), self.variable_dtype)

    def cost(self, *grids_shape):
        total = Cost()
        for first, second, shape in zip(self.first, self.second, grids_shape, strict=True):
            total += first.cost(shape) + second.cost(first.compute_output_shape(shape))
        batch, h, w, _ = upsampled(grids_shape[0], self.scale)
        return total + self.classifier.cost((batch, h, w, self.width * len(grids_shape)))


@keras.saving.register_keras_serializable(package="keras_vit")
class LinearDecoder(ConfiguredLayer):
    """Classifies every position of a map (B, h, w, F) alone: float32 logits (B, h, w, K).

    Args:
        num_classes: int, K.
        use_bias: bool.
    """

    def __init__(self, num_classes, use_bias=False, **kwargs):
        super().__init__(**kwargs)
        self.classifier = classifier(num_classes, use_bias=use_bias, dtype=self.variable_dtype)

    def build(self, grid_shape):
        self.classifier.build(grid_shape)

    def call(self, grid):
        return self.classifier(grid)

    def compute_output_spec(self, grid):
        shape = self.classifier.compute_output_shape(grid.shape)
        return keras.KerasTensor(shape, self.variable_dtype)

    def cost(self, grid_shape):
        return self.classifier.cost(grid_shape)


@keras.saving.register_keras_serializable(package="keras_vit")
class ResizeToImage(ConfiguredLayer):
    """Resizes logits to the size of the image, with bilinear interpolation.

    Call arguments:
        logits: float tensor (B, h, w, K).
        images: tensor (B, H, W, C); only its size is used.

    Returns:
        Logits (B, H, W, K).
    """

    def call(self, logits, images):
        _, h, w, _ = ops.shape(images)
        return resize_map(logits, (h, w))

    def compute_output_shape(self, logits_shape, images_shape):
        return (*images_shape[:3], logits_shape[3])

    def compute_token_layout(self, layout):
        p, q = layout.patch_size
        size = [n and n * side for n, side in zip(layout.grid_size, (p, q), strict=True)]
        return TokenLayout(0, tuple(size), (1, 1))

    def cost(self, logits_shape, images_shape):
        return Cost(activations=images_shape[1] * images_shape[2] * logits_shape[3])


def upsample(grid, scale, align_corners=False):
    """The map (B, h, w, D), `scale` times as high and wide."""
    if scale == 1:
        return grid
    _, h, w, _ = ops.shape(grid)
    return resize_map(grid, (scale * h, scale * w), align_corners)


def upsampled(shape, scale):
    """The shape of what `upsample` returns."""
    batch, h, w, width = shape
    return (batch, h and scale * h, w and scale * w, width)
