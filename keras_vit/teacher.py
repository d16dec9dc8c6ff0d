"""`Teacher` and `teacher_logits`: adapt a Keras model to the images of a student and to logits.

Letters: B batch, N images, H x W the student's image size, h x w the teacher's, C channels,
K classes.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers import resample_grid
from keras_vit.models.base import ImageModel
from keras_vit.models.classifier import ImageClassifier


class Teacher(keras.Model):
    """A teacher that takes the student's images and returns logits.

    Args:
        teacher: `keras.Model` from images (B, h, w, C) to logits or probabilities (B, K).
        preprocess: function or layer from the student's images, resized to (B, h, w, C), to the
            teacher's input, or None.
        from_logits: bool, whether the teacher outputs logits; False for probabilities.

    Call arguments:
        images: float tensor (B, H, W, C), the student's images.

    Returns:
        Logits (B, K), float32; for probabilities their logarithms.
    """

    def __init__(self, teacher, preprocess=None, from_logits=True):
        super().__init__(name="teacher", dtype="float32")
        self.teacher = teacher
        self.preprocess = preprocess
        self.from_logits = from_logits
        self.built = True

    def call(self, images, training=None):
        outputs = ops.cast(self.outputs(images), "float32")
        return outputs if self.from_logits else ops.log(outputs + keras.config.epsilon())

    def outputs(self, images):
        """The output of the teacher, logits or probabilities (B, K), for images (B, H, W, C)."""
        # A copy: keras.applications' preprocess_input works in place on PyTorch.
        images = ops.copy(ops.cast(images, "float32"))
        size = _image_size(self.teacher)
        if size is not None and size != tuple(images.shape[1:3]):
            images = _resized(images, size)
        if self.preprocess is not None:
            images = self.preprocess(images)
        return self.teacher(images, training=False)

    def check(self, input_shape):
        """Raises a `ValueError` unless `from_logits` matches the teacher's output.

        Args:
            input_shape: (B, H, W, C), shape of the student's images.
        """
        _, height, width, channels = input_shape
        one = np.zeros((1, height or 224, width or 224, channels), "float32")
        found = ops.convert_to_numpy(ops.cast(self.outputs(ops.convert_to_tensor(one)), "float32"))
        probabilities = bool(found.min() >= 0 and abs(found.sum() - 1) < 1e-3)
        if probabilities == self.from_logits:
            raise ValueError(
                f"from_logits must be {not self.from_logits}: the teacher outputs "
                f"{'probabilities' if probabilities else 'logits'}. Received: from_logits="
                f"{self.from_logits}, outputs from {found.min():.3g} to {found.max():.3g} with a "
                f"sum of {found.sum():.3g} for one image"
            )


def teacher_logits(teacher, images, preprocess=None, from_logits=True, batch_size=32):
    """Computes the logits of a teacher for all images once, for a `Distiller` without a teacher.

    The logits do not depend on augmentation. This differs from the paper, where the teacher sees
    the augmented images of the student.

    Args:
        teacher: `keras.Model` from images (B, h, w, C) to logits or probabilities (B, K).
        images: array (N, H, W, C), or a `tf.data.Dataset` of batches of images or of (images,
            ...), in a fixed order.
        preprocess: function or layer from the images, resized to (B, h, w, C), to the teacher's
            input. By default a teacher of this library is given pixels 0..255, converted to its
            normalisation, and any other teacher the images unchanged.
        from_logits: bool, whether the teacher outputs logits; False for probabilities.
        batch_size: int, number of images in a batch, if `images` is an array.

    Returns:
        NumPy array (N, K) of logits, float32.

    Raises:
        ValueError: if the teacher has no logits, or `from_logits` does not match its output.

    Example:
        >>> logits = keras_vit.teacher_logits(teacher, images)
        >>> data = tf.data.Dataset.from_tensor_slices(
        ...     (images, {"labels": labels, "teacher": logits})
        ... )
        >>> distiller = keras_vit.Distiller(student)
        >>> distiller.compile("adamw", loss)
        >>> distiller.fit(data.shuffle(10_000).batch(128), epochs=10)
    """
    num_classes(teacher, "teacher")
    if preprocess is None:
        preprocess = normalization(teacher)
    model = Teacher(teacher, preprocess, from_logits)
    if hasattr(images, "shape"):
        model.check(images.shape)
        return model.predict(images, batch_size=batch_size, verbose=0)
    spec = images.element_spec
    model.check((spec[0] if isinstance(spec, tuple) else spec).shape)
    return model.predict(images, verbose=0)


def num_classes(model, role):
    """K of a model that outputs logits or probabilities (B, K).

    Args:
        model: built `keras.Model`.
        role: "student" or "teacher", for the error message.

    Raises:
        ValueError: for a model with another output.
    """
    shape = getattr(model, "output_shape", None)
    headless = isinstance(model, ImageClassifier) and model.num_classes is None
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[-1] is None or headless:
        raise ValueError(
            f"The {role} must be a built model from images to logits of shape (batch, classes). "
            f"Received: {getattr(model, 'name', model)} with "
            f"{f'features of shape {shape}' if headless else f'outputs of shape {shape}'}"
        )
    return shape[-1]


def _image_size(model):
    """(h, w), the image size of a model, or None if it takes any size or the size is unknown."""
    shape = getattr(model, "input_shape", None)
    known = isinstance(shape, tuple) and len(shape) == 4 and None not in shape[1:3]
    return tuple(shape[1:3]) if known else None


def _resized(images, size):
    """Resizes images (B, H, W, C), bicubic with antialiasing, the same on every backend."""
    height, width, channels = images.shape[1:]
    x = ops.reshape(ops.transpose(images, (1, 2, 0, 3)), (height, width, -1))  # (H, W, B*C)
    x = ops.reshape(resample_grid(x, size, "timm"), (*size, -1, channels))
    return ops.transpose(x, (2, 0, 1, 3))


def normalization(teacher, student=None):
    """A layer that converts images of a student to the normalisation of a teacher, or None.

    None if the normalisations are the same, or the teacher is not a model of this library. Without
    a student, or for one that is not of this library, images are pixels 0..255.
    """
    if not isinstance(teacher, ImageModel):
        return None
    (scale, offset), (theirs, their_offset) = map(_scale_of_pixels, (teacher, student))
    factor = scale / theirs
    if np.allclose(factor, 1) and np.allclose(offset, their_offset):
        return None
    shift = offset - factor * their_offset
    return keras.layers.Rescaling(factor.tolist(), shift.tolist(), dtype="float32")


def _scale_of_pixels(model):
    """(scale, offset) from pixels 0..255 to a model's input; (1, 0) for models of others."""
    if not isinstance(model, ImageModel) or model.get_config()["include_preprocessing"]:
        return np.ones(1), np.zeros(1)
    preprocessor = model.preprocessor
    mean = np.array(preprocessor.mean if preprocessor else (0.5,))
    std = np.array(preprocessor.std if preprocessor else (0.5,))
    return 1 / (255 * std), -mean / std
