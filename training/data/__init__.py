"""Images and labels: where they come from, and the tf.data pipelines that deliver them."""

from .examples import Split, Splits
from .loading import encoded_source, load, stratified
from .pipeline import (
    Part,
    classified,
    evaluation_dataset,
    pictures,
    steps_per_epoch,
    train_dataset,
)
from .plan import Plan

__all__ = [
    "Part",
    "Plan",
    "Split",
    "Splits",
    "classified",
    "encoded_source",
    "evaluation_dataset",
    "load",
    "pictures",
    "steps_per_epoch",
    "stratified",
    "train_dataset",
]
