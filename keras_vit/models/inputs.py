"""Checks of a model's input: image size and range of values.

Letters: B batch, H x W image size, C channels.
"""

import inspect

import keras
import numpy as np
from keras import ops

from keras_vit.callers import warn
from keras_vit.fast_paths import fast_paths_enabled
from keras_vit.layers.sublayer import TORCH
from keras_vit.layers.validation import check_images
from keras_vit.models.walk import walk

# Normalised images are within about 3 of zero; an image with all pixels below 30 is nearly black.
NORMALIZED, PIXELS = 4, 30


class ImageInputs(keras.Model):
    """A functional model that checks its input in `fit`, `predict`, `__call__` and the like.

    Subclasses set `patch_size`, `whole_patches` (whether image sizes must be multiples of it),
    `drop_remainder` and `takes_pixels` (whether they normalise pixels themselves).
    """

    _warned = False  # whether the warning about the range of values was given
    _range_checked = False  # whether values of a tensor were read since the last `fit` or `predict`

    def fit(self, x=None, *args, **kwargs):
        data = self.checked_data(x)
        build_training(self, self.output, x, *args, **kwargs)
        return super().fit(data, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        # Within `fit` Keras reuses the validation data of the first epoch.
        again = kwargs.get("_use_cached_eval_dataset", False)
        return super().evaluate(self.checked_data(x, watch=not again), *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        return super().predict(self.checked_data(x), *args, **kwargs)

    def train_on_batch(self, x, *args, **kwargs):
        data = self.checked_data(x)
        build_training(self, self.output, x, *args, **kwargs)
        return super().train_on_batch(data, *args, **kwargs)

    def test_on_batch(self, x, *args, **kwargs):
        return super().test_on_batch(self.checked_data(x), *args, **kwargs)

    def predict_on_batch(self, x):
        return super().predict_on_batch(self.checked_data(x))

    def __call__(self, inputs, *args, **kwargs):
        if hasattr(inputs, "shape"):
            self.check_size(inputs.shape)
            check_range(self, inputs)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        self.check_size(inputs.shape)  # again: Keras's JAX trainer does not use __call__
        if not TORCH or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        return walk(self, inputs, training, self.compiled_by_torch)

    @property
    def compiled_by_torch(self):
        """bool, whether the layers are to be compiled by `torch.compile` (`jit_compile=True`)."""
        return TORCH and self.compiled and self.jit_compile

    def _should_torch_compile(self):
        # `walk` compiles the layers instead of the whole step, where it may.
        return super()._should_torch_compile() and not fast_paths_enabled()

    def checked_data(self, data, watch=True):
        """Checks the image size of arrays and tf.data pipelines before Keras starts.

        A later error is too late: on JAX it leaves the model without its weights, and TensorFlow
        relaxes the shapes of its traces, so that a wrong size raises no error at all.

        Args:
            data: any data that `fit`, `evaluate` or `predict` takes.
            watch: bool, whether to check the range of values of the first batch too.

        Returns:
            `data`, or a wrapper that yields the same batches and checks the first.

        Raises:
            ValueError: if the model does not take images of this shape.
        """
        images = _images(getattr(data, "element_spec", data))
        shape = getattr(images, "shape", None)
        if shape is not None and getattr(shape, "rank", 4) is not None:
            self.check_size(shape)
        return with_range_check(self, data) if watch else data

    def check_size(self, shape):
        """Raises a `ValueError` unless the model takes images of this shape, (B, H, W, C)."""
        patch_size = self.patch_size if self.whole_patches else (1, 1)
        check_images(shape, patch_size, self.name, self.drop_remainder)
        expected = self.input.shape[1:]
        if any(
            a is not None and b is not None and a != b
            for a, b in zip(expected, shape[1:], strict=True)
        ):
            raise ValueError(
                f"{self.name} was built for images of shape {expected}. Resize the images, resize "
                f"the model with keras_vit.resize(model, image_size=...), or build it with "
                f"image_size=None. Received: shape={tuple(shape)}"
            )


def build_training(model, outputs, x=None, y=None, *_, **__):
    """Creates the variables of a compiled model's optimizer and metrics; on TensorFlow only.

    Keras creates them while it traces the first step, and a `tf.function` that creates variables is
    traced twice, which takes up to a minute for a large model.

    Args:
        model: built `keras.Model`.
        outputs: symbolic output of a step, (B, K).
        x, y: data of `fit`; metrics are built if `y` is an array or tensor, or `x` a tf.data
            pipeline. Further arguments of `fit` are ignored.
    """
    if keras.backend.backend() != "tensorflow" or not model.compiled:
        return
    optimizer, metrics = model.optimizer, model._compile_metrics
    with model.distribute_strategy.scope():
        if optimizer is not None and not optimizer.built and model.trainable_variables:
            optimizer.build(model.trainable_variables)
        labels = _labels(x) if y is None else y
        if metrics is not None and not metrics.built and getattr(labels, "shape", None):
            dtype = keras.backend.standardize_dtype(labels.dtype)
            metrics.build(keras.KerasTensor((None, *labels.shape[1:]), dtype), outputs)


def check_range(model, images):
    """Warns, once per model, if it is given pixels 0..255 but takes normalised images, or reversed.

    A sample of the pixels is checked. Arrays are checked in every call, tensors only once after
    each `fit` or `predict`, because reading them waits for the accelerator. Tensors that are being
    traced are skipped.

    Args:
        model: `ImageInputs`.
        images: array or tensor (B, H, W, C); anything else is ignored.
    """
    if model._warned or len(getattr(images, "shape", ())) != 4:
        return
    array = isinstance(images, np.ndarray)
    if not array and (model._range_checked or not _has_values(images)):
        return
    batch, height, width, _ = images.shape
    b, h, w = max(batch // 4, 1), max(height // 64, 1), max(width // 64, 1)
    some = ops.convert_to_numpy(images[::b, ::h, ::w])
    if not some.size or some.dtype.kind not in "uif" and some.dtype.name != "bfloat16":
        return
    low, high = float(some.min()), float(some.max())
    if low == high:
        return  # black, or a constant that builds a model
    model._range_checked = model._range_checked or not array
    if model.takes_pixels:  # an image may be dark, but fractions mean a range of 0..1 or -1..1
        wrong = max(high, -low) <= NORMALIZED and (some != np.round(some)).any()
    elif some.dtype.kind in "ui":
        wrong = high > 1
    else:
        wrong = high > PIXELS and low > -high / 4  # bicubic resizing gives values below zero too
    if wrong:
        _warn_once(model, f"values from {low:.3g} to {high:.3g}, {some.dtype}")


def with_range_check(model, data):
    """Wraps data of `fit`, `evaluate` or `predict` so that the first batch is checked.

    No batch is read ahead or twice, so the order and randomness of a pipeline do not change.
    PyTorch data loaders are returned unchanged: the model checks their batches when it is called.
    """
    model._range_checked = False
    if model._warned:
        return data
    if hasattr(data, "element_spec"):
        dtype = str(getattr(_images(data.element_spec), "dtype", ""))
        if "float" in dtype:
            return _checked_pipeline(model, data)
        if "int" in dtype and not model.takes_pixels:
            _warn_once(model, f"a pipeline of {dtype}")
        return data
    if inspect.isgenerator(data):
        return _checked_generator(model, data)
    if isinstance(data, keras.utils.PyDataset):
        # A worker process cannot warn, and would need a copy of the model.
        return data if data.use_multiprocessing else _CheckedDataset(model, data)
    check_range(model, _images(data))
    return data


def _warn_once(model, received):
    model._warned = True
    if model.takes_pixels:
        expected = (
            "pixels 0..255, which it normalises itself (include_preprocessing=True): pass pixels, "
            "or build it with include_preprocessing=False"
        )
    else:
        expected = (
            "normalised images, not pixels 0..255: build or load it with "
            "include_preprocessing=True, or normalise them (model.preprocess_images, "
            "keras_vit.Preprocessor)"
        )
    warn(
        f"{model.name} takes {expected}. With other values its outputs are meaningless. This "
        f"warning is given once. Received: {received}"
    )


def _images(data):
    """The images in data that Keras takes: x, (x, ...), or a dict with one input or "images"."""
    if isinstance(data, (tuple, list)) and data:
        data = data[0]
    if not isinstance(data, dict):
        return data
    return next(iter(data.values())) if len(data) == 1 else data.get("images", data)


def _labels(data):
    """The spec of the labels of a tf.data pipeline of (x, y, ...), or None."""
    spec = getattr(data, "element_spec", None)
    return spec[1] if isinstance(spec, tuple) and len(spec) > 1 else None


def _has_values(images):
    """Whether a tensor of this backend has values that this process can read now."""
    if keras.backend.backend() == "torch":
        import torch

        if torch.compiler.is_compiling() or type(images) not in (torch.Tensor, torch.nn.Parameter):
            return False  # fake tensors of an export too
        return images.device.type != "meta" and not torch._C._functorch.is_functorch_wrapped_tensor(
            images
        )
    if keras.backend.backend() == "jax":
        import jax

        concrete = isinstance(images, jax.Array) and not isinstance(images, jax.core.Tracer)
        return concrete and images.is_fully_addressable
    import tensorflow as tf

    return isinstance(images, tf.Tensor) and hasattr(images, "numpy")


def _checked_pipeline(model, data):
    """The tf.data pipeline, with a check of the first batch of every epoch."""
    import tensorflow as tf

    if not isinstance(data, tf.data.Dataset) or tf.distribute.has_strategy():
        return data  # distributed over devices, where Python may not run
    if keras.backend.backend() == "tensorflow" and _replicas(model) > 1:
        return data

    def see(images):
        check_range(model, images)
        return np.int64(0)

    def pass_on(i, element):
        images = _images(element)
        if isinstance(images, tf.Tensor):
            tf.cond(
                i == 0,
                lambda: tf.numpy_function(see, [images], tf.int64),
                lambda: tf.constant(0, tf.int64),
            )
        return element

    return data.enumerate().map(pass_on)


def _replicas(model):
    return model.distribute_strategy.num_replicas_in_sync


def _checked_generator(model, generator):
    for i, element in enumerate(generator):
        if i == 0:
            check_range(model, _images(element))
        yield element


class _CheckedDataset(keras.utils.PyDataset):
    """A `PyDataset` that checks the first batch that is requested."""

    def __init__(self, model, source):
        super().__init__(source.workers, max_queue_size=source.max_queue_size)
        self.model, self.source, self.seen = model, source, False

    def __getitem__(self, index):
        element = self.source[index]
        if not self.seen:
            self.seen = True
            check_range(self.model, _images(element))
        return element

    @property
    def num_batches(self):
        return self.source.num_batches

    def on_epoch_begin(self):
        self.source.on_epoch_begin()

    def on_epoch_end(self):
        self.source.on_epoch_end()
