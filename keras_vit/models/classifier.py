"""Models that classify pictures.

Letters: B batch.
"""

import numpy as np
from keras import ops

from keras_vit.layers.validation import check_count
from keras_vit.models.base import ImageModel, check_list


class ImageClassifier(ImageModel):
    """A model from images (B, H, W, C) to logits (B, num_classes); families derive from it.

    Args: as `ImageModel`; the constructor has `num_classes` and `class_names` too.
    """

    @property
    def num_classes(self):
        """int, how many logits there are, or None for a model that gives features."""
        return self._arguments["num_classes"]

    @property
    def class_names(self):
        """list of str, what the logits stand for, or None; it is saved with the model."""
        return self._arguments["class_names"]

    @class_names.setter
    def class_names(self, names):
        check_class_names(names, self.num_classes)
        self._arguments["class_names"] = None if names is None else list(names)

    def predict_images(self, images, top=5, batch_size=32):
        """Classifies pictures of any size.

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
        """The probabilities of all classes for pictures of any size, in one batch.

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
        check_list(images)


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
