"""Losses that several tasks share."""

from keras_vit.losses.segmentation import SegmentationCrossEntropy, SegmentationDice

__all__ = ["SegmentationCrossEntropy", "SegmentationDice"]
