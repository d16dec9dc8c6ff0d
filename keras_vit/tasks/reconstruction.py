"""`ReconstructsImages`: training and results of models that predict pixels of removed patches.

Letters: B batch, N patches of p x q pixels, H x W image size, C channels.
"""

import math
from types import SimpleNamespace

import keras
import numpy as np
from keras import ops

from keras_vit.models.normalization import mean_and_std
from keras_vit.ops.patches import images_of, patches_of

EPSILON = 1e-6  # of the variance of a patch, in its square root


class ReconstructsImages(keras.Model):
    """Mixin of a functional model from images to {"patches": (B, N, p*q*C), "mask": (B, N)}.

    A subclass has `predicted_patch`, (p, q), of the patches that it predicts; `normalize_pixels`;
    `distance`, a function of differences; and `_autoencode`, which builds the outputs from symbolic
    images and noise.
    """

    def _set_masked_model(self, units):
        """Builds the model with a given mask; `units` are the numbers of noise, None for any."""
        noise = keras.Input((units,), name="noise", dtype="float32")
        outputs = self._autoencode(self.input, noise)
        model = keras.Model([self.input, noise], outputs, name=f"{self.name}_masked")
        # In a namespace, where Keras does not look for layers to track and to save.
        object.__setattr__(self, "_masked", SimpleNamespace(model=model))

    _compiled = SimpleNamespace(metrics=())

    def compile(self, optimizer="rmsprop", loss=None, metrics=None, **kwargs):
        """Configures training; `fit` takes images (B, H, W, C), and ignores labels.

        Args:
            optimizer: as in `keras.Model.compile`.
            loss: None; the loss is the model's own.
            metrics: None, or ["explained"] for the share of the variance of removed pixels that the
                predictions explain: 0 for their mean, 1 for the pixels themselves.
            kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: for a loss or other metrics.
        """
        if loss is not None or list(metrics or []) not in ([], ["explained"]):
            raise ValueError(
                f"{type(self).__name__} has its own loss, on the removed patches: compile it with "
                "an optimizer, and metrics=['explained'] or none. "
                f"Received: loss={loss!r}, metrics={metrics!r}"
            )
        super().compile(optimizer, loss=None, **kwargs)
        found = [keras.metrics.Mean(name=name) for name in metrics or ()]
        # In a namespace, where Keras does not look for state of a model that is built already.
        object.__setattr__(self, "_compiled", SimpleNamespace(metrics=found))

    @property
    def metrics(self):
        """list of `keras.metrics.Metric`: the mean loss, and what `compile` was asked for."""
        return [*super().metrics, *self._compiled.metrics]

    def get_compile_config(self):
        config = super().get_compile_config()
        names = [metric.name for metric in self._compiled.metrics]
        return {**config, "metrics": names or None} if config else config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = self.reconstruction_loss(x, y_pred)
        for more in self.losses:  # of layers, such as regularisation
            loss = loss + more
        # Under tf.distribute Keras adds up the gradients of the replicas, and expects shares of it.
        return self._aggregate_additional_loss(loss)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        for metric in self._compiled.metrics:
            metric.update_state(self.explained(x, y_pred))
        return self.get_metrics_result()

    def explained(self, images, outputs):
        """The share of the variance of removed pixels that the predictions explain, a scalar."""
        target = self._targets(images)[0]
        mask = outputs["mask"][..., None]
        count = ops.sum(mask) * target.shape[-1]
        mean = ops.sum(target * mask) / count
        left = ops.sum(ops.square(ops.cast(outputs["patches"], "float32") - target) * mask)
        return 1 - left / ops.maximum(ops.sum(ops.square(target - mean) * mask), 1e-12)

    def reconstruction_loss(self, images, outputs):
        """The mean distance of predicted and true values over the removed patches, a scalar."""
        target = self._targets(images)[0]
        difference = ops.cast(outputs["patches"], "float32") - target
        distance = ops.mean(self.distance(difference), axis=-1)  # (B, N)
        mask = outputs["mask"]
        return ops.sum(distance * mask) / ops.sum(mask)

    def _targets(self, images):
        """(targets (B, N, p*q*C), mean and root of the variance of each patch, or 0 and 1)."""
        x = ops.cast(ops.convert_to_tensor(images), "float32")
        if self.takes_pixels:
            x = ops.cast(self.get_layer("preprocessing")(x), "float32")
        x = patches_of(x, self.predicted_patch)
        if not self.normalize_pixels:
            return x, 0.0, 1.0
        mean = ops.mean(x, axis=-1, keepdims=True)
        n = x.shape[-1]
        variance = ops.sum(ops.square(x - mean), axis=-1, keepdims=True) / (n - 1)  # unbiased
        root = ops.sqrt(variance + EPSILON)
        return (x - mean) / root, mean, root

    def reconstruct(self, images, noise=None):
        """Removes patches of images and predicts them.

        Args:
            images: array (B, H, W, C), the model's input, or a list of pictures of any size, which
                are preprocessed.
            noise: float array (B, N) that decides which patches are removed: those with the
                smallest noise stay. None for the mask of inference, which depends on `seed` alone.

        Returns:
            dict of NumPy float32 arrays:
            "patches": (B, N, p*q*C) as predicted, with `normalize_pixels` relative to the mean and
            the standard deviation of each patch.
            "mask": (B, N), 1 where a patch was removed.
            "loss": float.
            "images": (B, H, W, C), with the predictions in the place of removed patches, in pixels
            0..255; of a model that neither has a `preprocessor` nor takes pixels, in the values of
            its input.

        Raises:
            ValueError: for images or noise of another shape.

        Example:
            >>> mae = keras_vit.from_pretrained("facebook/vit-mae-base")
            >>> mae.reconstruct(["cat.jpg"])["images"].shape
            (1, 224, 224, 3)
        """
        if not hasattr(images, "shape"):
            images = self.preprocess_images(images)
        images = np.asarray(ops.convert_to_numpy(images), "float32")
        self.check_size(images.shape)
        if noise is None:
            outputs = self.predict_on_batch(images)
        else:
            noise = np.asarray(noise, "float32")
            self._check_noise(noise, images.shape)
            outputs = self._masked.model.predict_on_batch([images, noise])
        patches, mask = (np.asarray(outputs[key], "float32") for key in ("patches", "mask"))
        target, mean, root = map(_numpy, self._targets(images))
        shown = np.where(mask[..., None] > 0, patches, target) * root + mean
        p, q = self.predicted_patch
        grid = (images.shape[1] // p, images.shape[2] // q)
        return {
            "patches": patches,
            "mask": mask,
            "loss": float(self.reconstruction_loss(images, {"patches": patches, "mask": mask})),
            "images": self.in_pixels(_numpy(images_of(shown, (p, q), grid))),
        }

    def _check_noise(self, noise, shape):
        units = math.prod(self.grid_of_units(shape[1:3]))
        if noise.shape != (shape[0], units):
            raise ValueError(
                f"noise must have {units} numbers for each of {shape[0]} images, one for each unit "
                f"that is removed or stays. Received: shape={noise.shape}"
            )

    def grid_of_units(self, image_size):
        """(h, w), the grid of what is removed as a whole from an image of size (H, W): patches."""
        p, q = self.predicted_patch
        return image_size[0] // p, image_size[1] // q

    def in_pixels(self, images):
        """Normalised images as pixels 0..255; unchanged if it is not known how they were made."""
        if self.preprocessor is None and not self.takes_pixels:
            return images
        mean, std = (np.float32(x) for x in mean_and_std(self.preprocessor))
        return np.clip((images * std + mean) * 255, 0, 255)


def _numpy(x):
    return np.asarray(ops.convert_to_numpy(x), "float32")


def check_ratio(mask_ratio):
    """Raises a `ValueError` unless the share of patches to remove is a number in (0, 1)."""
    number = isinstance(mask_ratio, (int, float)) and not isinstance(mask_ratio, bool)
    if not number or not 0 < mask_ratio < 1:
        raise ValueError(
            "mask_ratio must be a number above 0 and below 1: with 0 there is nothing to predict, "
            f"with 1 nothing to see. Received: mask_ratio={mask_ratio!r}"
        )
