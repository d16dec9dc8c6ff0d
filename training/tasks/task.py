"""`Task`: what the training loop has to know about a task."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..data.plan import stacked


@dataclass(frozen=True)
class Task:
    """The functions by which a task differs from others; everything else is the loop's.

    A task reads a source into `Splits`, whose `labels` are what it makes of them. An `example`
    function turns a picture and its label into an image and a target, in training with a seed; the
    pipeline makes batches of these, and the model's own loss and metrics take them.

    Attributes:
        metric: str, name of the metric in the logs; the best epoch has the highest "val_" + metric.
        title: str, the metric in the words of reports, such as "accuracy".
        load: function from `DataTable`, number of classes (or "auto") and the path of saved
            examples to `Splits`.
        build: function from `Recipe` and class names to a model that is not compiled.
        compile: function (model, optimizer, `Recipe`, `Splits`) that compiles it.
        training: function from `Recipe` and model to the example function of training. It raises a
            `ValueError` for settings that do not fit the model.
        mix: function from `Recipe` to `Plan.mix`.
        batches: function from `Recipe`, model and `Split` to `Plan.batches`.
        validation: function from a `Split`, `Recipe` and model to the `Split` that `fit` validates
            with, and its example function.
        validation_batch: function from a `Recipe` to the size of the batches of validation.
        validated: function from a `Job` to the function that measures its model after an epoch, a
            dict of metric to float, or None: for metrics that are none of Keras.
        blank: function from a model to inputs and targets, arrays of a batch of one.
        ignored: argument of `training.data.evaluation_dataset`.
        notes: function from `Recipe` and `Splits` to what is noted at the start of a run.
        fit_head: function (`Recipe`, compiled model, `Splits`) that fits a new head to the features
            of the rest: finetune.head = "fitted"; None where there is none.
        test: function from a `Job` whose model is trained to `Tested`.
        summary: function from a result (`result.json`) to one sentence.
        shipped: function from the trained model to the one that is exported.
    """

    metric: str
    title: str
    load: Callable
    build: Callable
    compile: Callable
    training: Callable
    mix: Callable
    validation: Callable
    validation_batch: Callable
    blank: Callable
    ignored: Callable | None
    fit_head: Callable | None
    test: Callable
    summary: Callable
    shipped: Callable = lambda model: model
    batches: Callable = lambda recipe, model, split: stacked
    validated: Callable = lambda job: None
    notes: Callable = lambda recipe, splits: []


@dataclass(frozen=True)
class Tested:
    """What the test pictures have shown, once, after the last epoch.

    Attributes:
        result: dict, the first keys of `result.json`.
        title: str, behind the name of the run in the title of the report.
        rows: list of (name, value), the table of the results.
        mistakes: list of str, the Markdown of the section on mistakes.
        samples: float32 images of the model, with which its export is compared.
        heading: str, of that section.
    """

    result: dict
    title: str
    rows: list
    mistakes: list
    samples: np.ndarray = field(repr=False)
    heading: str = "Mistakes"
