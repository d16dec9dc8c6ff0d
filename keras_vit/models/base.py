"""What all models here share: images in, checked before anything starts; features by name.

Letters: B batch, H x W image size, C channels, h x w grid of patches, N = h*w, P prefix tokens,
D width.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers import (
    ClassAttentionBlock,
    PyramidBlock,
    SwinBlock,
    TokensToGrid,
    TransformerBlock,
)
from keras_vit.layers.validation import as_pair, check_count
from keras_vit.models.adapted import adapt, adapted_layers, low_rank_updates, merges
from keras_vit.models.frozen import freeze, frozen_paths
from keras_vit.models.inputs import ImageInputs, look
from keras_vit.preprocessing import Preprocessor, load_image

BLOCKS = (TransformerBlock, SwinBlock, PyramidBlock, ClassAttentionBlock)


class ImageModel(ImageInputs):
    """A functional model on images; families derive from it.

    A family's constructor builds the graph and then hands over what this class needs.

    Args:
        inputs, outputs, name: of the functional model.
        arguments: dict, exactly the constructor's arguments, for `get_config`.
        patch_size: (p, q) in pixels; image sizes must be multiples of it.
        num_prefix_tokens: int, P, tokens in front of the sequence that are no patches.
        prefix_tokens_after: dict of layer name to P where it differs on the way.
        patch_size_after: dict of layer name to the size of its patches where it differs.
        drop_remainder: whether pixels that fill no patch are left out, instead of an error.
        pyramid: dict of stage name to the layer whose output is its feature map, finest first, or
            None for a family without stages.
    """

    def __init__(
        self,
        inputs,
        outputs,
        name,
        arguments,
        patch_size,
        num_prefix_tokens,
        prefix_tokens_after,
        patch_size_after=None,
        drop_remainder=False,
        pyramid=None,
    ):
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        self.dtype_policy = arguments["dtype"]
        self.patch_size = patch_size
        self.drop_remainder = drop_remainder
        self.num_prefix_tokens = num_prefix_tokens
        self.num_classes = arguments["num_classes"]
        self._prefix_tokens_after = prefix_tokens_after
        self._patch_size_after = patch_size_after or {}
        self._arguments = arguments
        self._pyramid = pyramid
        adapt(self, arguments.get("adapted_layers"))
        freeze(self, arguments["frozen_layers"])
        self.low_rank_updates = low_rank_updates(self)  # for its files

    @property
    def class_names(self):
        """list of str, what the logits stand for, or None; it is saved with the model."""
        return self._arguments["class_names"]

    @class_names.setter
    def class_names(self, names):
        check_class_names(names, self.num_classes)
        self._arguments["class_names"] = None if names is None else list(names)

    @property
    def preprocessor(self):
        """`keras_vit.Preprocessor` from pictures to images, or None; it is saved with the model.

        The normalisation within a model with `include_preprocessing=True` stays what it is.
        """
        return self._arguments["preprocessor"]

    @preprocessor.setter
    def preprocessor(self, preprocessor):
        before, after = self._arguments["preprocessor"], as_preprocessor(preprocessor)
        if self.takes_pixels and _pixels(after) != _pixels(before):
            raise ValueError(
                "mean and std are part of this model (include_preprocessing=True): give a "
                "Preprocessor with the same, or build the model anew with preprocessor=.... "
                f"Expected: {_pixels(before)}. Received: {_pixels(after)}"
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
        height, width = self.input.shape[1:3]
        if height is None:
            return None
        p, q = self.patch_size
        if self.drop_remainder:
            return (height // p, width // q)
        return (-(-height // p), -(-width // q))  # rounded up, where patches need not be whole

    @property
    def picture_preprocessor(self):
        """The `Preprocessor` that makes of pictures what this model takes, or None.

        It is `preprocessor`, without the normalisation where that is part of the model.
        """
        if self.preprocessor is None or not self.takes_pixels:
            return self.preprocessor
        pixels = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}
        return Preprocessor.from_config({**self.preprocessor.get_config(), **pixels})

    def token_layout(self, layer_name):
        """What the tokens are that a layer gives: the patch size in pixels, and P.

        Args:
            layer_name: str, a layer that gives tokens (B, P + N, D).

        Returns:
            ((p, q), P).
        """
        patch_size = self._patch_size_after.get(layer_name, self.patch_size)
        patch_size = as_pair(patch_size, "patch_size")
        return patch_size, self._prefix_tokens_after.get(layer_name, self.num_prefix_tokens)

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
            layers = [layer.name for layer in self.layers if isinstance(layer, BLOCKS)]
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
                    to_grid = TokensToGrid(*self.token_layout(name), name=f"{name}_grid")
                    x = _called_beside(to_grid, x, self.input)
            outputs[name] = x
        return keras.Model(self.input, outputs, name=f"{self.name}_features")

    def features(self, images, layers=None, grid=False):
        """Outputs of named layers for `images` (B, H, W, C), as `feature_model` gives them."""
        self.check_size(images.shape)
        look(self, images)
        outputs = self.feature_model(layers, grid)(images, training=False)
        return {name: outputs[name] for name in (outputs if layers is None else layers)}

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

    def predict_images(self, images, top=5, batch_size=32):
        """What is on pictures of any size, in words.

        Args:
            images: list of pictures, each a path, the bytes of a file, a PIL image, or an array of
                pixels 0..255, (H, W, 3).
            top: int, how many classes to name for each.
            batch_size: int, pictures at a time.

        Returns:
            list, for each picture the `top` most probable as (label, probability), most probable
            first; labels are `class_names`, or class indices where the model has none.

        Raises:
            ValueError: for a model without `preprocessor` or head, or what is no picture.

        Example:
            >>> model.predict_images(["cat.jpg"], top=1)
            [[('tabby, tabby cat', 0.82)]]
        """
        check_count(top, "top")
        check_count(batch_size, "batch_size")
        self._check_pictures(images)
        names, found, images = self.class_names, [], list(images)
        for start in range(0, len(images), batch_size):
            for row in self.image_probabilities(images[start : start + batch_size]):
                best = np.argsort(-row)[:top]
                found.append([(names[i] if names else int(i), float(row[i])) for i in best])
        return found

    def image_probabilities(self, images):
        """How probable each class is on pictures of any size, in one batch.

        Args:
            images: as `predict_images` takes them.

        Returns:
            float32 array (B, num_classes), the softmax of the logits.

        Raises:
            ValueError: as `predict_images`.

        Example:
            >>> model.image_probabilities(["cat.jpg"]).shape
            (1, 1000)
        """
        self._check_pictures(images)
        batch = self.preprocess_images(images)  # (B, H, W, C)
        logits = ops.cast(self(batch, training=False), "float32")
        return ops.convert_to_numpy(ops.softmax(logits))

    def _check_pictures(self, images):
        if self.preprocessor is None or self.num_classes is None:
            raise ValueError(
                "predict_images needs a model with a head and with preprocessor=keras_vit."
                "Preprocessor(...), as keras_vit.from_pretrained gives them. Received: "
                f"num_classes={self.num_classes}, preprocessor={self.preprocessor}"
            )
        _check_list(images)

    def preprocess_images(self, images):
        """Pictures of any size as this model takes them.

        Args:
            images: list of pictures, as `predict_images` takes them.

        Returns:
            Tensor (B, H, W, C), what the model's `preprocessor` makes of them; of a model that
            normalises by itself pixels 0..255.

        Raises:
            ValueError: for a model without `preprocessor`, or what is no picture.

        Example:
            >>> model.preprocess_images(["cat.jpg"]).shape
            (1, 224, 224, 3)
        """
        _check_list(images)
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


def _called_beside(layer, *tensors):
    """The output of a new layer on a model's tensors, of which the model's layers keep nothing."""
    output = layer(*tensors)
    for tensor in tensors:
        tensor._keras_history.operation._outbound_nodes.pop()
    return output


def _check_list(images):
    if isinstance(images, (str, bytes)) or not hasattr(images, "__iter__"):
        raise ValueError(f"images must be a list of pictures. Received: {type(images)}")


def as_preprocessor(preprocessor):
    """A `Preprocessor`, given as one, as its configuration, or None for none."""
    if isinstance(preprocessor, dict) and preprocessor.get("class_name") == "Preprocessor":
        preprocessor = Preprocessor.from_config(preprocessor["config"])  # no other class is made
    if preprocessor is not None and not isinstance(preprocessor, Preprocessor):
        raise ValueError(
            f"preprocessor must be a keras_vit.Preprocessor or None. Received: {preprocessor!r}"
        )
    return preprocessor


def _pixels(preprocessor):
    """(mean, std) of a `Preprocessor`, one number where all are alike; by default -1..1."""
    if preprocessor is None:
        return (0.5,), (0.5,)
    return tuple(x[:1] if len(set(x)) == 1 else x for x in (preprocessor.mean, preprocessor.std))


def pixels_to_input(preprocessor, **kwargs):
    """The layer that normalises pixels 0..255 as `preprocessor` does, by default to -1..1."""
    mean = np.array(preprocessor.mean if preprocessor else (0.5,))
    std = np.array(preprocessor.std if preprocessor else (0.5,))
    scale, offset = 1 / (255 * std), -mean / std
    if len(scale) == 1:
        scale, offset = scale[0], offset[0]
    else:
        scale, offset = scale.tolist(), offset.tolist()
    return keras.layers.Rescaling(scale, offset=offset, **kwargs)


def check_class_names(class_names, num_classes):
    """Raises unless there is a name for every class, or none at all."""
    if class_names is None:
        return
    if not isinstance(class_names, (list, tuple)) or not all(
        isinstance(name, str) for name in class_names
    ):
        raise ValueError(f"class_names must be a list of str. Received: {class_names!r}")
    if len(class_names) != num_classes:
        raise ValueError(
            "class_names must hold one name for each class. "
            f"Received: {len(class_names)} names, num_classes={num_classes}"
        )
