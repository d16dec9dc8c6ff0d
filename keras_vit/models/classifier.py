"""`ImageClassifier`, the base class of models that classify images.

Letters: B batch.
"""

import numpy as np
from keras import ops

from keras_vit.layers.validation import check_count
from keras_vit.models.base import ImageModel, check_list
from keras_vit.picture_files import ahead


class ImageClassifier(ImageModel):
    """Base class of models from images (B, H, W, C) to logits (B, num_classes).

    It takes the same arguments as `ImageModel`. The constructor of a subclass must also have
    `num_classes` and `class_names`.
    """

    @property
    def num_classes(self):
        """int, number of classes, or None for a model without a head."""
        return self._arguments["num_classes"]

    @property
    def class_names(self):
        """list of str, one name per class, or None. It is saved with the model."""
        return self._arguments["class_names"]

    @class_names.setter
    def class_names(self, names):
        check_class_names(names, self.num_classes)
        self._arguments["class_names"] = None if names is None else list(names)

    def predict_images(self, images, top=5, batch_size=32):
        """Classifies pictures of any size.

        Threads load the next batch while the model works on one.

        Args:
            images: list of pictures, each a path, the bytes of a file, a PIL image, or an array of
                pixels 0..255, (H, W, 3).
            top: int, number of classes to return for each picture.
            batch_size: int, number of pictures in a batch.

        Returns:
            list with one list per picture of (label, probability) for the `top` most probable
            classes, the most probable first. Labels are `class_names`, or class indices if the
            model has no names.

        Raises:
            ValueError: if the model has no `preprocessor` or no head, or an item is not a picture.

        Example:
            >>> model.predict_images(["cat.jpg"], top=1)
            [[('tabby, tabby cat', 0.82)]]
        """
        check_count(top, "top")
        check_count(batch_size, "batch_size")
        self._check_pictures(images)
        names, found = self.class_names, []
        for _, loading in ahead(self.preparing(), list(images), batch_size):
            for row in self.prepared_probabilities([x.result() for x in loading]):
                best = np.argsort(-row)[:top]
                found.append([(names[i] if names else int(i), float(row[i])) for i in best])
        return found

    def image_probabilities(self, images):
        """Computes the probabilities of all classes for pictures of any size, in one batch.

        Args:
            images: list of pictures, as in `predict_images`.

        Returns:
            NumPy array (B, num_classes), float32, the softmax of the logits.

        Raises:
            ValueError: if the model has no `preprocessor` or no head, or an item is not a picture.

        Example:
            >>> model.image_probabilities(["cat.jpg"]).shape
            (1, 1000)
        """
        self._check_pictures(images)
        prepare = self.preparing()
        return self.prepared_probabilities([prepare(x) for x in images])

    def prepared_probabilities(self, prepared):
        """`image_probabilities` of what the function of `preparing` returned for pictures."""
        batch = self.prepared_batch(prepared)  # (B, H, W, C)
        logits = ops.cast(self(batch, training=False), "float32")
        return ops.convert_to_numpy(ops.softmax(logits))

    def _check_pictures(self, images):
        if self.preprocessor is None or self.num_classes is None:
            raise ValueError(
                "predict_images needs a model with a head and with preprocessor=keras_vit."
                "Preprocessor(...); keras_vit.from_pretrained sets both. Received: "
                f"num_classes={self.num_classes}, preprocessor={self.preprocessor}"
            )
        check_list(images)


def check_class_names(class_names, num_classes):
    """Raises a `ValueError` unless `class_names` is None or a list of `num_classes` str."""
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
