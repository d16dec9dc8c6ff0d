"""Features of a model: outputs of named layers, as tokens or maps, and pyramids of maps.

Letters: B batch, H x W image size, C channels, h x w grid of patches, N = h*w, P prefix tokens,
D width.
"""

import re

import keras

from keras_vit.layers import Block, TokensToGrid
from keras_vit.models.inputs import look


class Features:
    """The part of `keras_vit.models.base.ImageModel` that gives features."""

    def token_layout(self, layer_name):
        """The layout of the tokens or the map that a layer gives.

        Args:
            layer_name: str. For a layer that gives a vector, such as the pooling, it is the layout
                of the tokens that it reads.

        Returns:
            `keras_vit.models.layout.TokenLayout`: prefix tokens, grid, patch size.

        Raises:
            ValueError: for a layer that does not exist, or neither reads nor gives patches.
        """
        self.get_layer(layer_name)  # raises where there is none
        layout = self._layouts.get(layer_name)
        if layout is None:
            raise ValueError(
                f"{layer_name!r} gives neither tokens of known patches nor a feature map, and "
                f"reads none. Received: layer_name={layer_name!r} of {self.name}"
            )
        return layout

    def feature_model(self, layers=None, grid=False):
        """A model from images to the outputs of named layers; it shares this model's weights.

        Args:
            layers: list of layer names, such as `["block05", "norm"]`; by default every block.
            grid: if True the prefix tokens are left out and the patches laid back onto their grid.

        Returns:
            `keras.Model` from images (B, H, W, C) to a dict of tokens (B, P + N, D), or feature
            maps (B, h, w, D), by layer name. Layers that work on maps give maps either way.

        Raises:
            ValueError: for a layer that does not exist, or whose output has no grid.
        """
        if layers is None:
            layers = [layer.name for layer in self.layers if isinstance(layer, Block)]
        outputs = {}
        for name in layers:
            x = self.get_layer(name).output
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
        """Outputs of named layers for `images` (B, H, W, C), as `feature_model` gives them."""
        self.check_size(images.shape)
        look(self, images)
        outputs = self.feature_model(layers, grid)(images, training=False)
        return {name: outputs[name] for name in (outputs if layers is None else layers)}

    @property
    def _pyramid(self):
        """dict of stage to the layer that gives its map, finest first; None without stages.

        The layers of a stage have its name in front, "stage0_...", and the last gives its map.
        Where tokens follow the last map, "tokens" are those of the last block.
        """
        stages = {}
        for layer in self.layers:
            stage = re.match(r"(stage\d+)(_|$)", layer.name)
            if stage:
                stages[stage[1]] = layer.name
        blocks = [layer.name for layer in self.layers if isinstance(layer, Block)]
        if stages and blocks and not blocks[-1].startswith("stage"):
            stages["tokens"] = blocks[-1]
        return stages or None

    def pyramid_model(self):
        """A model from images (B, H, W, C) to a dict of every stage's feature map, finest first."""
        if self._pyramid is None:
            raise ValueError(
                "A pyramid needs a family with stages of falling resolution; use features(images, "
                f"layers, grid=True) here. Received: {self.name}"
            )
        maps = self.feature_model(list(self._pyramid.values()), grid=True).output
        outputs = {stage: maps[name] for stage, name in self._pyramid.items()}
        return keras.Model(self.input, outputs, name=f"{self.name}_pyramid")

    def pyramid(self, images):
        """Feature maps of every stage for `images` (B, H, W, C): {"stage0": (B, h, w, D), ...}."""
        self.check_size(images.shape)
        look(self, images)
        outputs = self.pyramid_model()(images, training=False)
        return {stage: outputs[stage] for stage in self._pyramid}


def _called_beside(layer, *tensors):
    """The output of a new layer on a model's tensors; the model's layers keep no node of it."""
    output = layer(*tensors)
    for tensor in tensors:
        tensor._keras_history.operation._outbound_nodes.pop()
    return output
