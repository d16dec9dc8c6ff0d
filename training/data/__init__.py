"""Images and labels: where they come from, and the tf.data pipelines that deliver them."""

from training.data.examples import Split, Splits
from training.data.loading import encoded_source, load, stratified
from training.data.pipeline import (
    Part,
    evaluation_dataset,
    pictures,
    steps_per_epoch,
    train_dataset,
)
from training.data.plan import Plan

__all__ = [
    "Part",
    "Plan",
    "Split",
    "Splits",
    "encoded_source",
    "evaluation_dataset",
    "load",
    "pictures",
    "steps_per_epoch",
    "stratified",
    "train_dataset",
]
