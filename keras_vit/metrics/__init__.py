"""Metrics of the tasks: `MeanIoU` for `model.compile(metrics=[...])`, and COCO's for detection."""

from keras_vit.metrics.coco import CocoAveragePrecision, EvaluateCoco
from keras_vit.metrics.mean_iou import MeanIoU

__all__ = ["CocoAveragePrecision", "EvaluateCoco", "MeanIoU"]
