"""Metrics of the tasks, for `model.compile(metrics=[...])`."""

from keras_vit.metrics.mean_iou import MeanIoU

__all__ = ["MeanIoU"]
