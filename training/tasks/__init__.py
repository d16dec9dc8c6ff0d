"""The tasks that recipes train, by the kind that [task] names: one table, one protocol (`Task`)."""

from . import classification, detection, masked, segmentation
from .task import Task, Tested

__all__ = ["TASKS", "Task", "Tested", "of"]

TASKS = {
    "classification": classification.TASK,
    "segmentation": segmentation.TASK,
    "detection": detection.TASK,
    "masked": masked.TASK,
}


def of(recipe):
    """The `Task` of a `Recipe`."""
    return TASKS[recipe.task.kind]
