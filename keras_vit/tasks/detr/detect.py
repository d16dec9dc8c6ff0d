"""`DetectsPictures`: objects in pictures of any size.

Letters: B batch, H x W size of a picture, h x w size of an image, Q queries, K classes, n objects.
"""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
from keras import ops

from keras_vit.layers.validation import as_pair, check_count
from keras_vit.models.base import check_list
from keras_vit.models.normalization import mean_and_std
from keras_vit.picture_files import load_image
from keras_vit.preprocessing import Preprocessor
from keras_vit.tasks.detr.detections import decode
from keras_vit.tasks.detr.tiles import cut, merged


class DetectsPictures(keras.Model):
    """Mixin of an `ImageModel` of padded images whose outputs are {"logits", "boxes"}."""

    def detect(
        self,
        pictures,
        threshold=0.5,
        batch_size=8,
        size=None,
        max_detections=None,
        classes=None,
        tiles=None,
    ):
        """Finds objects in pictures of any size.

        A picture is resized as the authors of DETR do (`keras_vit.Preprocessor`, resize="fit"), and
        the pictures of a batch are padded to the largest of them.

        Args:
            pictures: list of pictures, each a path, the bytes of a file, a PIL image, or an array
                of pixels 0..255, (H, W, 3).
            threshold: float, smallest score; 0 for all queries.
            batch_size: int, number of pictures or tiles in a batch. DETR with a dilated last stage
                ("DC5") was trained and is most precise with one.
            size: (short, longest) in pixels; by default that of the model's `preprocessor`, (800,
                1333) unless it says another.
            max_detections: int, largest number of objects in a picture, or None.
            classes: list of names or labels, the classes to keep; None for all.
            tiles: int or (rows, columns), into how many overlapping tiles a picture is cut, for
                objects that are small in large pictures. The whole picture counts too, and what is
                found twice is merged.

        Returns:
            list of `Detections`, one per picture: boxes (x0, y0, x1, y1) in its own pixels, scores,
            labels, names.

        Raises:
            ValueError: if an argument is invalid, or an item is not a picture, which it names.

        Example:
            >>> (found,) = model.detect(["street.jpg"], threshold=0.7)
            >>> found.names, found.boxes.shape
            (['person', 'bicycle'], (2, 4))
        """
        check_list(pictures)
        plan = self._plan(threshold, batch_size, size, max_detections, classes, tiles)
        found, waiting, batch = [], [], []
        for picture in pictures:
            pixels = load_image(picture)
            views = cut(pixels.shape[:2], plan.tiles)
            waiting.append(SimpleNamespace(size=pixels.shape[:2], views=views, found=[]))
            for view in views:
                batch.append((waiting[-1], view, plan.prepare(view.of(pixels))))
                if len(batch) == batch_size:
                    self._detect_in(batch)
                    batch = []
            found += self._complete(waiting, plan)
        if batch:
            self._detect_in(batch)
        return found + self._complete(waiting, plan)

    def preprocess_images(self, images):
        """Turns pictures of any size into padded images for this model.

        Args:
            images: list of pictures, as in `detect`.

        Returns:
            {"images": (B, H, W, C), "valid": bool (B, H, W)}, which the model takes.

        Raises:
            ValueError: if an item is not a picture.
        """
        check_list(images)
        prepare = self._preparation(None)
        return self._padded([prepare(load_image(picture)) for picture in images])

    def _plan(self, threshold, batch_size, size, max_detections, classes, tiles):
        """The checked arguments of `detect`."""
        check_count(batch_size, "batch_size")
        if isinstance(threshold, bool) or not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in 0..1. Received: threshold={threshold!r}")
        if max_detections is not None:
            check_count(max_detections, "max_detections")
        return SimpleNamespace(
            threshold=threshold,
            prepare=self._preparation(size),
            max_detections=max_detections,
            labels=None if classes is None else self._labels_of(classes),
            tiles=None if tiles is None else as_pair(tiles, "tiles"),
        )

    def _preparation(self, size):
        """A function from the pixels of a picture to an image, resized to fit `size`."""
        if self.input.shape[-1] != 3:
            raise ValueError(
                "detect needs a model of RGB images. "
                f"Received: a model of {self.input.shape[-1]} channels"
            )
        preprocessor = self.picture_preprocessor
        if size is not None or preprocessor.resize != "fit":
            own = preprocessor.image_size if preprocessor.resize == "fit" else (800, 1333)
            preprocessor = Preprocessor(
                as_pair(own if size is None else size, "size"),
                "fit",
                1.0,
                "bilinear",
                mean=preprocessor.mean,
                std=preprocessor.std,
            )
        return lambda pixels: np.asarray(ops.convert_to_numpy(preprocessor(pixels)), "float32")

    def _labels_of(self, classes):
        if isinstance(classes, str) or not hasattr(classes, "__iter__"):
            raise ValueError(f"classes must be a list of names or labels. Received: {classes!r}")
        names, found = self.class_names or [], set()
        for one in classes:
            known = one in names if isinstance(one, str) else one in range(self.num_classes)
            if not known:
                raise ValueError(
                    "classes must be names of model.class_names, or labels from 0 to "
                    f"{self.num_classes - 1}. Received: {one!r}"
                )
            found.add(names.index(one) if isinstance(one, str) else int(one))
        return found

    def _padded(self, images):
        """{"images", "valid"} of images (h, w, C), padded at the bottom and right."""
        by = self.patch_size if self.whole_patches else (1, 1)
        h, w = (-(-max(image.shape[i] for image in images) // by[i]) * by[i] for i in (0, 1))
        batch = np.zeros((len(images), h, w, images[0].shape[-1]), "float32")
        if self.takes_pixels:  # zero after the normalisation
            batch += np.array(mean_and_std(self.preprocessor)[0], "float32") * 255
        valid = np.zeros((len(images), h, w), bool)
        for i, image in enumerate(images):
            height, width, _ = image.shape
            batch[i, :height, :width] = image
            valid[i, :height, :width] = True
        return {"images": batch, "valid": valid}

    def _detect_in(self, batch):
        """Computes a batch, and adds what is found to the pictures that it is of."""
        outputs = self.predict_on_batch(self._padded([image for *_, image in batch]))
        views = [view for _, view, _ in batch]
        found = decode(outputs, [view.size for view in views])
        for (picture, view, _), detections in zip(batch, found, strict=True):
            shift = np.array([view.left, view.top] * 2, "float32")
            moved = dataclasses.replace(detections, boxes=detections.boxes + shift)
            picture.found.append((view, moved))

    def _complete(self, waiting, plan):
        """Takes the pictures whose views are all done from the front of a list: their results."""
        found = []
        while waiting and len(waiting[0].found) == len(waiting[0].views):
            picture = waiting.pop(0)
            every = [(view, x.keep(x.scores >= plan.threshold)) for view, x in picture.found]
            detections = every[0][1] if len(every) == 1 else merged(every, picture.size)
            if plan.labels is not None:
                wanted = [label in plan.labels for label in detections.labels]
                detections = detections.keep(np.array(wanted, bool))
            detections = detections.keep(slice(plan.max_detections))
            height, width = picture.size
            most = np.array([width, height, width, height], "float32")
            found.append(self._named(detections, np.clip(detections.boxes, 0, most)))
        return found

    def _named(self, detections, boxes):
        names, ids = self.class_names, self.class_ids
        labels = detections.labels.tolist()
        return dataclasses.replace(
            detections,
            boxes=boxes,
            names=None if names is None else [names[label] for label in labels],
            ids=labels if ids is None else [ids[label] for label in labels],
        )
