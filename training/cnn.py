"""A small convolutional network, to train as a teacher or as a baseline.

Letters: B batch, H x W image size, C channels, D width of a stage, K classes.
"""

import keras
from keras import layers

from keras_vit.layers import ClassificationHead
from keras_vit.layers.validation import as_pair, check_count
from keras_vit.models.classifier import ImageClassifier, check_class_names
from keras_vit.models.configured import configured
from keras_vit.models.normalization import pixels_to_input


@keras.saving.register_keras_serializable(package="training")
@configured  # documents the arguments that families share
class SmallCNN(ImageClassifier):
    """A small residual network from images (B, H, W, C) to logits (B, num_classes).

    A stage is a convolution to its width, 2 x 2 max pooling, and a residual branch of two more
    convolutions. Every convolution is 3 x 3, followed by batch normalisation and ReLU.

    Args:
        num_classes: int, K.
        image_size: int or (H, W), in pixels.
        widths: tuple of int, D of every stage; each stage halves the map.
        dropout_rate: float in [0, 1), dropout before the head.

    Raises:
        ValueError: if `widths` is empty or not positive, or the image is too small for the stages.

    Source: based on He et al. 2016 (arXiv:1512.03385).
    """

    def __init__(
        self,
        *,
        num_classes=10,
        image_size=32,
        widths=(32, 64, 128),
        num_channels=3,
        dropout_rate=0.0,
        include_preprocessing=False,
        preprocessor=None,
        class_names=None,
        frozen_layers=(),
        adapted_layers=None,
        dtype=None,
        name=None,
    ):
        size = as_pair(image_size, "image_size")
        for width in widths:
            check_count(width, "widths")
        if not widths or min(size) < 2 ** len(widths):
            raise ValueError(
                "widths must have one entry or more, and image_size must be at least 2 to the "
                "power of their number, because each stage halves the image. "
                f"Received: widths={widths}, image_size={size}"
            )
        check_class_names(class_names, num_classes)

        def convolution(x, width, name):
            x = layer(
                layers.Conv2D, width, 3, padding="same", use_bias=False, name=f"{name}_convolution"
            )(x)
            x = layer(layers.BatchNormalization, momentum=0.9, name=f"{name}_norm")(x)
            return layer(layers.ReLU, name=f"{name}_relu")(x)

        layer = self.layer
        images = keras.Input((*size, num_channels), name="images")
        x = images  # (B, H, W, C)
        if include_preprocessing:
            x = layer(pixels_to_input, preprocessor, name="preprocessing")(x)
        for i, width in enumerate(widths):
            x = convolution(x, width, f"stage{i}")
            x = layer(layers.MaxPooling2D, name=f"stage{i}_pool")(x)  # half of H x W
            y = convolution(x, width, f"stage{i}_branch0")
            y = convolution(y, width, f"stage{i}_branch1")
            x = layer(layers.Add, name=f"stage{i}")([x, y])
        x = layer(layers.GlobalAveragePooling2D, name="pool")(x)  # (B, D)
        x = layer(layers.Dropout, dropout_rate, name="dropout")(x)
        x = layer(ClassificationHead, num_classes, name="head")(x)  # (B, K)
        super().__init__(images, x, name or "small_cnn")
