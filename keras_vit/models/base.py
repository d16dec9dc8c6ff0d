"""The base of all models: the graph, its configuration and the preprocessing of pictures.

Letters: B batch, H x W image size, C channels, P prefix tokens.
"""

from types import SimpleNamespace

import keras
from keras import ops

from keras_vit.layers import OverlappingPatchEmbedding, PatchEmbedding
from keras_vit.models.adapted import adapt, adapted_layers, low_rank_updates, merges
from keras_vit.models.features import Features
from keras_vit.models.frozen import freeze, frozen_paths
from keras_vit.models.inputs import ImageInputs
from keras_vit.models.layout import token_layouts
from keras_vit.models.normalization import as_preprocessor, mean_and_std
from keras_vit.preprocessing import Preprocessor, load_image

PATCHES = (PatchEmbedding, OverlappingPatchEmbedding)


class ImageModel(Features, ImageInputs):
    """A functional model on images; families derive from it.

    A family's constructor builds the graph and hands it over. `keras_vit.models.configured` records
    its arguments, which are the configuration.

    Args:
        inputs, outputs, name: of the functional model; by default it has Keras's name.

    Attributes:
        patch_size: (p, q) in pixels, of the last layer that cuts patches.
        num_prefix_tokens: int, P, tokens in front of the last sequence that are no patches.
    """

    def __init__(self, inputs, outputs, name=None):
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        arguments = self._arguments
        self._arguments = arguments  # as an attribute of Keras, which tracks the preprocessor
        self.dtype_policy = arguments["dtype"]
        self._layouts = token_layouts(self)
        cuts = [layer for layer in self.layers if isinstance(layer, PATCHES)]
        self._patches = cuts[-1].name if cuts else None
        self.patch_size = self._layouts[self._patches].patch_size if cuts else (1, 1)
        self.whole_patches = any(isinstance(layer, PatchEmbedding) for layer in cuts)
        self.drop_remainder = any(getattr(layer, "drop_remainder", False) for layer in cuts)
        last = [layout for layout in self._layouts.values() if layout is not None][-1]
        self.num_prefix_tokens = last.num_prefix_tokens
        adapt(self, arguments.get("adapted_layers"))
        freeze(self, arguments["frozen_layers"])
        self.low_rank_updates = low_rank_updates(self)  # for its files

    @property
    def _given(self):
        """The constructor's arguments as attributes."""
        return SimpleNamespace(**self._arguments)

    def layer(self, kind, /, *args, name, **kwargs):
        """The model's layer of this name, made with the model's dtype policy by the first call.

        So the code that builds a graph also applies its layers to other tensors afterwards.

        Args:
            kind: layer class, or function that makes a layer.
            args, kwargs: what it is made with; not read where the layer is there already.
            name: str.
        """
        if name not in self._made:
            kwargs = {"dtype": self._arguments["dtype"], **kwargs}
            self._made[name] = kind(*args, name=name, **kwargs)
        return self._made[name]

    @property
    def preprocessor(self):
        """`keras_vit.Preprocessor` from pictures to images, or None. It is saved with the model.

        The normalisation within a model with `include_preprocessing=True` stays what it is.
        """
        return self._arguments["preprocessor"]

    @preprocessor.setter
    def preprocessor(self, preprocessor):
        before, after = self._arguments["preprocessor"], as_preprocessor(preprocessor)
        if self.takes_pixels and mean_and_std(after) != mean_and_std(before):
            raise ValueError(
                "mean and std are part of this model (include_preprocessing=True): give a "
                "Preprocessor with the same, or build the model anew with preprocessor=.... "
                f"Expected: {mean_and_std(before)}. Received: {mean_and_std(after)}"
            )
        self._tracker.untrack(before)
        self._arguments["preprocessor"] = after  # tracked there

    def __setattr__(self, name, value):
        if name == "preprocessor":  # Keras and PyTorch would take the layer as one of the graph's
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def takes_pixels(self):
        """Whether the model normalises by itself, and takes pixels 0..255."""
        return self._arguments["include_preprocessing"]

    @property
    def grid_size(self):
        """(h, w), the grid of patches, or None where the model takes images of any size."""
        grid = self.input.shape[1:3]
        if self._patches is not None:
            grid = self._layouts[self._patches].grid_size
        return None if None in grid else tuple(grid)

    @property
    def picture_preprocessor(self):
        """The `Preprocessor` from pictures to this model's input, or None.

        It is `preprocessor`, without the normalisation where that is part of the model.
        """
        if self.preprocessor is None or not self.takes_pixels:
            return self.preprocessor
        pixels = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}
        return Preprocessor.from_config({**self.preprocessor.get_config(), **pixels})

    def preprocess_images(self, images):
        """Preprocesses pictures of any size for this model.

        Args:
            images: list of pictures, each a path, the bytes of a file, a PIL image, or an array of
                pixels 0..255, (H, W, 3).

        Returns:
            Tensor (B, H, W, C), what the model's `preprocessor` makes of them; of a model that
            normalises by itself pixels 0..255.

        Raises:
            ValueError: for a model without `preprocessor`, or what is no picture.

        Example:
            >>> model.preprocess_images(["cat.jpg"]).shape
            (1, 224, 224, 3)
        """
        check_list(images)
        if self.preprocessor is None:
            raise ValueError(
                "Pictures need a model with preprocessor=keras_vit.Preprocessor(...), as "
                "keras_vit.from_pretrained gives it; or give an array of images as the model takes "
                "them. Received: preprocessor=None"
            )
        preprocessor = self.picture_preprocessor
        return ops.stack([preprocessor(load_image(x)) for x in images])

    def get_config(self):
        config = dict(self._arguments)
        config["dtype"] = keras.dtype_policies.serialize(config["dtype"])
        if config["preprocessor"] is not None:
            config["preprocessor"] = keras.saving.serialize_keras_object(config["preprocessor"])
        frozen = frozen_paths(self, lora=not merges(self))
        changed = {"frozen_layers": frozen, "adapted_layers": adapted_layers(self)}
        return {**config, **changed, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def check_list(images):
    """Raises unless `images` are several pictures."""
    if isinstance(images, (str, bytes)) or not hasattr(images, "__iter__"):
        raise ValueError(f"images must be a list of pictures. Received: {type(images)}")
