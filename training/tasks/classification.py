"""Classification: a class for every picture.

Letters: N images, K classes.
"""

import keras
import numpy as np

from .. import data
from ..augment.mixing import mixing
from ..augment.transform import evaluation_transform, training_transform
from ..recipe.schema import JIT_COMPILE
from ..results import figures, report
from ..results.metrics import chance, log_softmax, measure
from .head import fit_head
from .task import Task, Tested


def build(recipe, class_names):
    """The model of a recipe, on pixels 0..255; see `ModelTable.build`."""
    return recipe.model.build(recipe.train.precision, recipe.finetune, class_names)


def compile_model(model, optimizer, recipe, splits):
    """Compiles a model with cross-entropy and accuracy."""
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.train.label_smoothing
    )
    model.compile(
        optimizer,
        loss,
        weighted_metrics=["accuracy"],  # see data.evaluation_dataset
        jit_compile=JIT_COMPILE[recipe.train.jit_compile],
    )


def training(recipe, model):
    """The example function of training: augmented images and one-hot classes."""
    transform = training_transform(recipe.augment, recipe.data, model.input.shape[1:])
    return data.classified(transform, model.output.shape[-1])


def validation(split, recipe, model):
    """The split itself, and its example function."""
    transform = evaluation_transform(recipe.data, model.input.shape[1:])
    return split, data.classified(transform, model.output.shape[-1])


def mix(recipe):
    """MixUp and CutMix of a recipe."""
    return mixing(recipe.augment.mixup, recipe.augment.cutmix)


def test(job):
    """Measures the test images and draws figures; returns `Tested`."""
    model, folder, split = job.model, job.folder, job.splits.test
    classes, names = model.output.shape[-1], job.splits.class_names
    transform = evaluation_transform(job.recipe.data, model.input.shape[1:])
    batches = data.evaluation_dataset(split, 256, data.classified(transform, classes))
    logits = model.predict(batches, verbose=0).astype("float32")  # (N, K)
    found = measure(logits, split.labels)
    images = data.pictures(split, transform)
    probabilities = np.exp(log_softmax(logits))
    predicted = probabilities.argmax(-1)

    of_images = model, images, split.labels, probabilities
    figures.predictions(*of_images, folder.predictions, names)
    figures.worst(*of_images, folder.worst, names)
    if classes <= report.MATRIX:
        figures.confusion(split.labels, predicted, classes, folder.confusion, names)
    result = {
        "test_accuracy": found.top1,
        "test_top5": found.top5,
        "test_loss": found.loss,
        "test_ece": found.ece,
        "test_images": found.images,
        "test_chance": chance(split.labels),
    }
    return Tested(
        result,
        f"{100 * found.top1:.2f} % of {found.images:,} test images{report.chance_in_words(result)}",
        report.rows_of_classification(result, int((split.labels != predicted).sum())),
        report.mistakes_of_classification(job, split.labels, predicted),
        images[:32].astype("float32"),
    )


def summary(result):
    """A sentence on a result."""
    return (
        f"Test accuracy {100 * result['test_accuracy']:.2f} % on {result['test_images']} images "
        f"after {result['epochs']} epochs{report.chance_in_words(result)}"
    )


TASK = Task(
    metric="accuracy",
    title="accuracy",
    load=data.load,
    build=build,
    compile=compile_model,
    training=training,
    mix=mix,
    validation=validation,
    validation_batch=lambda recipe: 256,
    blank=lambda model: tuple(np.zeros((1, *x.shape[1:])) for x in (model.input, model.output)),
    ignored=None,
    fit_head=fit_head,
    test=test,
    summary=summary,
)
