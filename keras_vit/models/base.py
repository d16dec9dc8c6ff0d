"""`ImageModel`, the base class of all models: layers, configuration, preprocessing of pictures.

A picture is a raw input of any size; an image is a model's input (`keras_vit.preprocessing`).

Letters: B batch, H x W image size, C channels, P prefix tokens.
"""

from types import SimpleNamespace

import keras
import numpy as np
from keras import ops

from keras_vit.layers import OverlappingPatchEmbedding, PatchEmbedding
from keras_vit.models.adapted import adapt, adapted_layers, low_rank_updates, merges
from keras_vit.models.features import Features
from keras_vit.models.frozen import freeze, frozen_paths
from keras_vit.models.inputs import ImageInputs
from keras_vit.models.layout import token_layouts
from keras_vit.models.normalization import as_preprocessor, mean_and_std
from keras_vit.optimizers.fused import FusesOptimizer
from keras_vit.preprocessing import Preprocessor, load_image

PATCHES = (PatchEmbedding, OverlappingPatchEmbedding)

# Formats of `keras.Model.export` that end in an error from inside the other framework (Keras 3.15).
KERAS_CANNOT_EXPORT = {
    "torch": ("tf_saved_model", "onnx", "openvino"),
    "jax": ("openvino",),
}


class ImageModel(FusesOptimizer, Features, ImageInputs):
    """Base class of the model families: a functional `keras.Model` on images.

    The constructor of a family builds the graph and passes its input and output to this class.
    `keras_vit.models.configured` records the constructor's arguments, which `get_config` returns.

    Args:
        inputs: symbolic input, (B, H, W, C).
        outputs: symbolic output.
        name: str; None for a name that Keras generates.

    Attributes:
        patch_size: (p, q), in pixels, of the last layer that embeds patches; (1, 1) without one.
        num_prefix_tokens: int, P, number of tokens before the patches in the last layer with
            tokens or a feature map.
        whole_patches: bool, whether the image size must be a multiple of `patch_size`.
        drop_remainder: bool, whether pixels that fill no patch are dropped instead.
    """

    def __init__(self, inputs, outputs, name=None):
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        arguments = self._arguments
        self._arguments = arguments  # set again, so that Keras tracks the preprocessor
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
        self.low_rank_updates = low_rank_updates(self)  # saved in model files

    @property
    def _given(self):
        """The constructor's arguments as attributes."""
        return SimpleNamespace(**self._arguments)

    def layer(self, kind, /, *args, name, **kwargs):
        """Returns the layer of this name; the first call creates it, with the model's dtype policy.

        The code that builds a graph can therefore be called again to apply the same layers to other
        tensors.

        Args:
            kind: layer class, or function that returns a layer.
            args, kwargs: arguments of `kind`; ignored if the layer exists.
            name: str, name of the layer.

        Returns:
            `keras.layers.Layer`.
        """
        if name not in self._layers_by_name:
            kwargs = {"dtype": self._arguments["dtype"], **kwargs}
            self._layers_by_name[name] = kind(*args, name=name, **kwargs)
        return self._layers_by_name[name]

    @property
    def preprocessor(self):
        """`keras_vit.Preprocessor` that turns pictures into images, or None. Saved with the model.

        A model with `include_preprocessing=True` cannot change its normalisation: assigning a
        `Preprocessor` with another `mean` or `std` raises a `ValueError`.
        """
        return self._arguments["preprocessor"]

    @preprocessor.setter
    def preprocessor(self, preprocessor):
        before, after = self._arguments["preprocessor"], as_preprocessor(preprocessor)
        if self.takes_pixels and mean_and_std(after) != mean_and_std(before):
            raise ValueError(
                "mean and std are part of this model (include_preprocessing=True): set a "
                "Preprocessor with the same values, or build a new model with preprocessor=.... "
                f"Expected: {mean_and_std(before)}. Received: {mean_and_std(after)}"
            )
        self._tracker.untrack(before)
        self._arguments["preprocessor"] = after  # Keras tracks it in this dict

    def __setattr__(self, name, value):
        if name == "preprocessor":  # Keras and PyTorch would add the layer to those of the graph
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def takes_pixels(self):
        """bool, whether the model takes pixels 0..255 and normalises them itself."""
        return self._arguments["include_preprocessing"]

    @property
    def grid_size(self):
        """(h, w), the grid of patches, or None if the model takes images of any size."""
        grid = self.input.shape[1:3]
        if self._patches is not None:
            grid = self._layouts[self._patches].grid_size
        return None if None in grid else tuple(grid)

    @property
    def picture_preprocessor(self):
        """`Preprocessor` that turns pictures into this model's input, or None.

        This is `preprocessor`; if the model normalises its input itself, it is a copy that leaves
        pixels at 0..255.
        """
        if self.preprocessor is None or not self.takes_pixels:
            return self.preprocessor
        pixels = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}
        return Preprocessor.from_config({**self.preprocessor.get_config(), **pixels})

    def preprocess_images(self, images):
        """Turns pictures of any size into a batch of images for this model.

        Args:
            images: list of pictures, each a path, the bytes of a file, a PIL image, or an array of
                pixels 0..255, (H, W, 3).

        Returns:
            Tensor (B, H, W, C): normalised images, or pixels 0..255 if the model normalises its
            input itself (`include_preprocessing=True`).

        Raises:
            ValueError: if the model has no `preprocessor`, or an item is not a picture.

        Example:
            >>> model.preprocess_images(["cat.jpg"]).shape
            (1, 224, 224, 3)
        """
        check_list(images)
        if self.preprocessor is None:
            raise ValueError(
                "To take pictures, a model needs preprocessor=keras_vit.Preprocessor(...), which "
                "keras_vit.from_pretrained sets; or pass an array of images that are already "
                "preprocessed. Received: preprocessor=None"
            )
        prepare = self.preparing()
        return self.prepared_batch([prepare(x) for x in images])

    def preparing(self):
        """A function that does of `preprocess_images` what any thread can do.

        It decodes a picture, and where PIL resizes, it resizes it. `prepared_batch` does the rest
        for what it returns.
        """
        preprocessor = self.picture_preprocessor

        def prepare(picture):
            pixels = load_image(picture)
            resized = preprocessor.resized(pixels)
            return pixels if resized is None else resized

        return prepare

    def prepared_batch(self, prepared):
        """Makes a batch of images (B, H, W, C) of what the function of `preparing` returned."""
        preprocessor = self.picture_preprocessor
        if preprocessor.resize and preprocessor.convention != "keras":
            return preprocessor(np.stack(prepared), resized=True)  # uint8 until the device
        return ops.stack([preprocessor(pixels) for pixels in prepared])

    def export(
        self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs
    ):
        """As `keras.Model.export`, where that works; `keras_vit.export` works on every backend.

        Raises:
            ValueError: for a format that Keras cannot write on this backend with a free batch size.
        """
        backend = keras.backend.backend()
        if input_signature is None and format in KERAS_CANNOT_EXPORT.get(backend, ()):
            raise ValueError(
                f"Keras cannot export this model as {format!r} on the backend {backend!r}. Use "
                "keras_vit.export(model, path), which writes it from any backend, runs it and "
                "compares: path without suffix for a SavedModel, or with .onnx, .tflite, .xml or "
                f".pt2. Received: format={format!r}"
            )
        super().export(filepath, format, verbose, input_signature, **kwargs)

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
    """Raises a `ValueError` unless `images` is an iterable of pictures."""
    if isinstance(images, (str, bytes)) or not hasattr(images, "__iter__"):
        raise ValueError(f"images must be a list of pictures. Received: {type(images)}")
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3, 4)):
        raise ValueError(
            "images must be a list of pictures: put a single one into a list, [image]. "
            f"Received: an array of shape {shape}"
        )
