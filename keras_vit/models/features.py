"""Features of a model: outputs of named layers, as tokens or maps, and feature pyramids.

Letters: B batch, H x W image size, C channels, h x w grid of patches, N = h*w, P prefix tokens,
D width.
"""

import re

import keras

from keras_vit.layers import TokensToGrid
from keras_vit.layers.block import BaseBlock
from keras_vit.models.graph import output_of
from keras_vit.models.inputs import check_range


class Features:
    """Mixin of `keras_vit.models.base.ImageModel` with the methods that return features."""

    def token_layout(self, layer_name):
        """The layout of the tokens or the feature map that a layer outputs.

        Args:
            layer_name: str. For a layer that outputs vectors, such as the pooling, the result is
                the layout of its input.

        Returns:
            `keras_vit.models.layout.TokenLayout`: prefix tokens, grid, patch size.

        Raises:
            ValueError: if the layer does not exist, or neither its input nor its output has
                patches.

        Example:
            >>> keras_vit.ViTBase().token_layout("block00").grid_size
            (14, 14)
        """
        self.get_layer(layer_name)  # raises if it does not exist
        layout = self._layouts.get(layer_name)
        if layout is None:
            raise ValueError(
                f"{layer_name!r} gives neither tokens of known patches nor a feature map, and its "
                "input is neither. Pass an earlier layer, such as a block. "
                f"Received: layer_name={layer_name!r} of {self.name}"
            )
        return layout

    def grid_of(self, layer_name, image_size):
        """(h, w), the grid of patches that a layer's tokens lie on, for images of size (H, W)."""
        return self.token_layout(layer_name).grid_of(image_size)

    def feature_model(self, layers=None, grid=False):
        """Returns a model from images to outputs of named layers. It shares this model's weights.

        Args:
            layers: list of layer names, such as `["block05", "norm"]`; by default every block.
            grid: bool. If True, prefix tokens are removed and the patch tokens are reshaped to a
                feature map.

        Returns:
            `keras.Model` from images (B, H, W, C) to a dict by layer name of tokens
            (B, P + N, D), or of feature maps (B, h, w, D) with `grid=True`. Layers that output
            feature maps, such as Swin's blocks, do so with either.

        Raises:
            ValueError: if a layer does not exist, or with `grid=True` its output has no grid.

        Example:
            >>> encoder = keras_vit.ViTBase().feature_model(["block05", "norm"], grid=True)
            >>> encoder(images)["norm"].shape
            (8, 14, 14, 768)
        """
        if layers is None:
            layers = [layer.name for layer in self.layers if isinstance(layer, BaseBlock)]
        outputs = {}
        for name in layers:
            x = output_of(self, self.get_layer(name))
            if grid:
                if len(x.shape) not in (3, 4):
                    raise ValueError(
                        "grid=True needs layers that give tokens, such as 'block00' or 'norm'. "
                        f"Received: {name!r} with output shape {x.shape}"
                    )
                if len(x.shape) == 3:
                    layout = self.token_layout(name)
                    to_grid = TokensToGrid(
                        layout.patch_size, layout.num_prefix_tokens, name=f"{name}_grid"
                    )
                    x = _called_beside(to_grid, x, self.input)
            outputs[name] = x
        return keras.Model(self.input, outputs, name=f"{self.name}_features")

    def features(self, images, layers=None, grid=False):
        """Computes the outputs of named layers.

        Args:
            images: array or tensor (B, H, W, C), the model's input.
            layers, grid: as in `feature_model`.

        Returns:
            dict of layer name to tensor, as in `feature_model`, in the order of `layers`.

        Raises:
            ValueError: as in `feature_model`, or if the model does not take such images.

        Example:
            >>> keras_vit.ViTBase().features(images, ["block05"])["block05"].shape
            (8, 197, 768)
        """
        self.check_size(images.shape)
        check_range(self, images)
        outputs = self.feature_model(layers, grid)(images, training=False)
        return {name: outputs[name] for name in (outputs if layers is None else layers)}

    @property
    def _pyramid(self):
        """dict of stage to the name of its last layer, finest map first; None without stages.

        Names of layers in a stage start with the name of the stage, "stage0_...". If blocks follow
        the last stage, as in a hybrid, "tokens" is the last block.
        """
        stages = {}
        for layer in self.layers:
            stage = re.match(r"(stage\d+)(_|$)", layer.name)
            if stage:
                stages[stage[1]] = layer.name
        blocks = [layer.name for layer in self.layers if isinstance(layer, BaseBlock)]
        if stages and blocks and not blocks[-1].startswith("stage"):
            stages["tokens"] = blocks[-1]
        return stages or None

    def pyramid_model(self):
        """Returns a model from images to the feature map of every stage. It shares the weights.

        Returns:
            `keras.Model` from images (B, H, W, C) to a dict of maps (B, h, w, D), finest first:
            {"stage0": ..., "stage1": ...}. A hybrid adds its last block as "tokens".

        Raises:
            ValueError: if the model has no stages.
        """
        if self._pyramid is None:
            raise ValueError(
                "A pyramid needs a family with stages of falling resolution, such as Swin or PVT; "
                "for other models use features(images, layers, grid=True). "
                f"Received: {self.name}"
            )
        maps = self.feature_model(list(self._pyramid.values()), grid=True).output
        outputs = {stage: maps[name] for stage, name in self._pyramid.items()}
        return keras.Model(self.input, outputs, name=f"{self.name}_pyramid")

    def pyramid(self, images):
        """Computes the feature map of every stage.

        Args:
            images: array or tensor (B, H, W, C), the model's input.

        Returns:
            dict of maps (B, h, w, D), finest first, as in `pyramid_model`.

        Raises:
            ValueError: if the model has no stages, or does not take such images.

        Example:
            >>> keras_vit.SwinTiny().pyramid(images)["stage0"].shape
            (8, 56, 56, 96)
        """
        self.check_size(images.shape)
        check_range(self, images)
        outputs = self.pyramid_model()(images, training=False)
        return {stage: outputs[stage] for stage in self._pyramid}


def _called_beside(layer, *tensors):
    """Applies a new layer to symbolic tensors of a model without changing the model's graph."""
    output = layer(*tensors)
    for tensor in tensors:
        tensor._keras_history.operation._outbound_nodes.pop()
    return output
