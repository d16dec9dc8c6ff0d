"""Average precision as COCO measures it.

Letters: N pictures, n detections of a picture, K categories, T thresholds of IoU, R of recall.
"""

import json
import os
from pathlib import Path

import keras
import numpy as np

# The twelve numbers, in the order in which pycocotools prints them.
NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
NAMES += ("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")
SIZES = ("all", "small", "medium", "large")  # of objects: below 32 x 32 pixels, below 96 x 96


class CocoAveragePrecision:
    """The twelve numbers of COCO's evaluation of boxes, picture by picture.

    The arithmetic is that of faster-coco-eval, whose results are pycocotools'
    (`pip install "keras-vision-transformers[detection]"`). All pictures of the annotations count,
    also those that were never passed to `update`: their objects are missed.

    Args:
        annotations: path of a JSON file in COCO's format, or its content, a dict with "images",
            "annotations" and "categories". Objects may lack "iscrowd" (0) and "area" (that of the
            box).

    Raises:
        ImportError: if faster-coco-eval is not installed.
        ValueError: for a file that is not in COCO's format.

    Example:
        >>> metric = keras_vit.metrics.CocoAveragePrecision("instances_val2017.json")
        >>> for image_id, found in detections.items():
        ...     metric.update(image_id, found.boxes, found.scores, found.ids)
        >>> metric.result()["AP50"]

    Source: https://cocodataset.org/#detection-eval
    """

    def __init__(self, annotations):
        self._api = _package()
        self.annotations = _checked(annotations)
        self.image_ids = [image["id"] for image in self.annotations["images"]]
        self._image_ids = set(self.image_ids)
        self.category_ids = sorted(item["id"] for item in self.annotations["categories"])
        self.reset()

    def reset(self):
        """Forgets all detections."""
        self._found, self._evaluated = {}, None

    def update(self, image_id, boxes, scores, labels):
        """Adds the detections of a picture.

        Args:
            image_id: its id in the annotations.
            boxes: float array (n, 4): x0, y0, x1, y1 in pixels of the picture.
            scores: float array (n,). At most the 100 highest of a category count.
            labels: integer array (n,), category ids of the annotations. Others do not count.

        Raises:
            ValueError: for a picture that the annotations do not have or that was added before, and
                for boxes or scores that are not finite.
        """
        boxes, scores = (np.asarray(x, "float64") for x in (boxes, scores))
        labels = np.asarray(labels, "int64")
        if image_id not in self._image_ids:
            raise ValueError(
                f"A picture must be one of the {len(self.image_ids):,} of the annotations. "
                f"Received: image_id={image_id!r}"
            )
        if image_id in self._found:
            raise ValueError(
                "A picture is added once, with all its detections; `reset` starts anew. "
                f"Received: image_id={image_id!r} again"
            )
        if boxes.shape != (len(scores), 4) or labels.shape != scores.shape:
            raise ValueError(
                "There must be a box (x0, y0, x1, y1), a score and a label for each detection. "
                f"Received: boxes {boxes.shape}, scores {scores.shape}, labels {labels.shape}"
            )
        for name, values in (("Boxes", boxes), ("Scores", scores)):
            if not np.isfinite(values).all():
                raise ValueError(
                    f"{name} must be finite. Received: {values[~np.isfinite(values)][0]} for "
                    f"image_id={image_id!r}"
                )
        self._found[image_id], self._evaluated = (boxes, scores, labels), None

    def result(self):
        """The twelve numbers.

        Returns:
            dict of float in 0..1: AP over IoU 0.50 to 0.95, AP50, AP75; AP_small (objects below
            32 x 32 pixels), AP_medium, AP_large (from 96 x 96); AR1, AR10, AR100 (recall with so
            many detections a picture), AR_small, AR_medium, AR_large. -1, as pycocotools has it,
            where there is no such object.
        """
        return dict(zip(NAMES, map(float, self._evaluation().stats[: len(NAMES)]), strict=True))

    def by_category(self):
        """The average precision of every category.

        Returns:
            dict of category id to a dict of float: "AP", "AP50", "AP75", "AP_small", "AP_medium",
            "AP_large"; NaN where there is no such object.
        """
        precision = self._precision()
        return {
            category: {
                "AP": _mean(precision[:, :, k, 0]),
                "AP50": _mean(precision[0, :, k, 0]),
                "AP75": _mean(precision[5, :, k, 0]),
                **{f"AP_{size}": _mean(precision[:, :, k, a]) for a, size in _SMALLER},
            }
            for k, category in enumerate(self.category_ids)
        }

    def curves(self):
        """The precision at 101 values of recall, mean over the categories that occur.

        Returns:
            (recall, float array (101,); dict of IoU threshold, 0.5 to 0.95, to float array (101,)).
        """
        precision = self._precision()[:, :, :, 0]  # (T, R, K)
        precision = precision[:, :, (precision > -1).all(axis=(0, 1))]
        params = self._evaluation().params
        means = precision.mean(axis=2) if precision.size else np.zeros(precision.shape[:2])
        thresholds = (round(float(x), 2) for x in params.iouThrs)
        return np.asarray(params.recThrs), dict(zip(thresholds, means, strict=True))

    def _precision(self):
        """float array (T, R, K, sizes), -1 where there is no such object; 100 detections."""
        return np.asarray(self._evaluation().eval["precision"])[..., -1]

    def _evaluation(self):
        if self._evaluated is None:
            coco, evaluation = self._api
            # Both are copies: the evaluation writes into what it is given.
            truth = coco({**self.annotations, "annotations": _copies(self.annotations)})
            found = coco({**self.annotations, "annotations": []})
            if detections := self._detections():
                found = truth.loadRes(detections)
            self._evaluated = evaluation(truth, found, "bbox", print_function=lambda *_: None)
            self._evaluated.run()
        return self._evaluated

    def _detections(self):
        """The detections as COCO has them: x, y, width, height."""
        return [
            {
                "image_id": image_id,
                "category_id": int(label),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": score,
            }
            for image_id, (boxes, scores, labels) in self._found.items()
            for (x0, y0, x1, y1), score, label in zip(
                boxes.tolist(), scores.tolist(), labels.tolist(), strict=True
            )
        ]


_SMALLER = list(enumerate(SIZES))[1:]


class EvaluateCoco(keras.callbacks.Callback):
    """Measures a detector after epochs of `model.fit`, as `CocoAveragePrecision` does.

    The twelve numbers come into the logs as "val_AP", "val_AP50", ..., where later callbacks, such
    as `keras.callbacks.ModelCheckpoint(monitor="val_AP", mode="max")`, find them. All detections
    count, whatever their score. `model.class_ids` says which category an output is.

    Args:
        annotations: path of a JSON file in COCO's format.
        pictures: folder of its pictures.
        every: int, epochs between two measurements; the last epoch is always measured.
        **how: arguments of `model.detect`, such as `size` and `batch_size`.

    Raises:
        ValueError: if a picture is missing, or an argument is invalid; for those of `detect` when
            training begins.

    Example:
        >>> measure = keras_vit.metrics.EvaluateCoco("val.json", "val", size=(512, 512))
        >>> model.fit(batches, epochs=10, callbacks=[measure])
    """

    def __init__(self, annotations, pictures, every=1, **how):
        super().__init__()
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"every must be an integer of 1 or more. Received: every={every!r}")
        if "threshold" in how:
            raise ValueError(
                "All detections count, whatever their score: leave threshold out. "
                f"Received: threshold={how['threshold']!r}"
            )
        self.metric = CocoAveragePrecision(annotations)
        self.every, self.how = every, how
        images = self.metric.annotations["images"]
        self.files = {image["id"]: Path(pictures, image["file_name"]) for image in images}
        missing = [str(path) for path in self.files.values() if not path.is_file()]
        if missing:
            raise ValueError(
                f"Every picture of the annotations must be there. Received: {len(missing):,} of "
                f"{len(images):,} missing, such as {missing[0]}"
            )

    def on_train_begin(self, logs=None):
        self.model.detect([], threshold=0.0, **self.how)  # raises now for wrong arguments

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every and epoch + 1 < self.params.get("epochs", 0):
            return
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        self.metric.reset()
        ids = list(self.files)
        for start in range(0, len(ids), CHUNK):
            some = ids[start : start + CHUNK]
            found = self.model.detect([self.files[i] for i in some], threshold=0.0, **self.how)
            for image_id, one in zip(some, found, strict=True):
                self.metric.update(image_id, one.boxes, one.scores, one.ids)
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in self.metric.result().items()})


CHUNK = 64  # pictures whose detections are in memory at a time


def _checked(annotations):
    """The content of a file in COCO's format, with what may be left out."""
    source = "a dict"
    if isinstance(annotations, (str, os.PathLike)):
        source = os.fspath(annotations)
        try:
            annotations = json.loads(Path(source).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"Annotations must be JSON: {error}. Received: {source}") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(annotations, dict) or not all(
        isinstance(annotations.get(key), list) for key in keys
    ):
        there = list(annotations) if isinstance(annotations, dict) else type(annotations).__name__
        raise ValueError(
            f"Annotations in COCO's format have the lists {', '.join(keys)}. "
            f"Received: {source} with {there}"
        )
    if not annotations["images"]:
        raise ValueError(f"There must be pictures to measure on. Received: none in {source}")
    objects = []
    _check_items(annotations, source)
    # COCO's evaluation takes an object of id 0 for one that was not found: ids are given anew.
    for number, item in enumerate(annotations["annotations"], start=1):
        box = [float(x) for x in item["bbox"]]
        crowd, area = item.get("iscrowd", 0), item.get("area", box[2] * box[3])
        found = {key: item[key] for key in ("image_id", "category_id")}
        objects.append({**found, "id": number, "bbox": box, "iscrowd": int(crowd), "area": area})
    return {
        "images": [{key: x[key] for key in x if key != "license"} for x in annotations["images"]],
        "annotations": objects,
        "categories": [dict(item) for item in annotations["categories"]],
    }


def _check_items(annotations, source):
    """Raises a `ValueError` for pictures, objects or categories without what is read of them."""
    for key, needed in (
        ("images", ("id",)),
        ("annotations", ("image_id", "category_id", "bbox")),
        ("categories", ("id",)),
    ):
        for item in annotations[key]:
            if missing := [name for name in needed if name not in item]:
                raise ValueError(
                    f"Every item of {key!r} must have {', '.join(needed)}. Received: {source} with "
                    f"one without {', '.join(missing)}: {str(item)[:80]}"
                )
    for item in annotations["annotations"]:
        if len(item["bbox"]) != 4:
            raise ValueError(
                "bbox must be x, y, width, height. "
                f"Received: bbox={item['bbox']} for image_id={item['image_id']!r} in {source}"
            )


def _copies(annotations):
    return [dict(item) for item in annotations["annotations"]]


def _mean(values):
    """The mean of precisions, NaN where there are none."""
    values = values[values > -1]
    return float(values.mean()) if values.size else float("nan")


def _package():
    """The two classes of faster-coco-eval."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise ImportError(
            "COCO's average precision needs faster-coco-eval: "
            'pip install "keras-vision-transformers[detection]"'
        ) from error
    return COCO, COCOeval_faster
