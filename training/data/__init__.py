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

__all__ = [
    "Part",
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
