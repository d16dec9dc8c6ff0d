"""Segmentation: a class for every pixel of a picture.

Letters: N pictures, H x W size of a picture, h x w size of the model's images, K classes.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

import keras_vit
from keras_vit.picture_files import load_image

from ..augment.segmentation import evaluation_example, padding, tiles, training_example
from ..data import segmentation as source
from ..data.examples import Encoded, reader
from ..data.masks import IGNORED
from ..data.pipeline import evaluation_dataset
from ..recipe.schema import JIT_COMPILE, ModelTable, require
from ..results import figures, overlays
from ..results.pixels import Counts
from ..results.report import MATRIX, table
from .decoder import fit_decoder
from .sourced import with_settings
from .task import Task, Tested

# Arguments of [model] on which no weight of a source depends.
FREE = ("auxiliary_heads", "short_side", "frozen_layers")
WORST = 6  # pictures
BATCH = 8  # windows or pictures that the model sees at a time
SAMPLES = 8


def build(recipe, class_names):
    """The model of a recipe, on pixels 0..255.

    `finetune.source` gives a whole model of the task, or an encoder; without it an encoder is built
    from model.encoder, the name of a variant or a table of one with its arguments.
    """
    arguments = dict(recipe.model.arguments)
    if class_names and len(class_names) == recipe.model.all_arguments()["num_classes"]:
        arguments.setdefault("class_names", list(class_names))
    encoder, source_of = arguments.pop("encoder", None), recipe.finetune.source
    settings = {"include_preprocessing": True, "dtype": recipe.train.precision}
    if "image_size" in arguments:
        settings["image_size"] = arguments["image_size"]
    if source_of:
        require(encoder is None, "model.encoder", "left out beside finetune.source", encoder)
        classes = recipe.model.all_arguments()["num_classes"]
        encoder = keras_vit.from_pretrained(
            source_of, like=recipe.finetune.like or None, num_classes=classes, **settings
        )
        if isinstance(encoder, recipe.model.family):
            precision = recipe.train.precision
            encoder = with_settings(encoder, arguments, FREE, precision, "encoder")
            return _trained(encoder, recipe)
    elif encoder is not None:
        found = {"variant": encoder} if isinstance(encoder, str) else dict(encoder)
        encoder_table = ModelTable(found.pop("variant"), found)
        encoder = encoder_table.factory(num_classes=None, **found, **settings)
    if encoder is None:
        model = recipe.model.factory(**arguments, **settings)
    else:
        arguments.pop("image_size", None)
        model = recipe.model.factory(encoder=encoder, dtype=recipe.train.precision, **arguments)
    return _trained(model, recipe)


def _trained(model, recipe):
    """The model, with the encoder frozen if finetune.train is "head"."""
    if recipe.finetune.train == "head":
        for layer in model.encoder_layers:
            layer.trainable = False
    require(
        None not in model.input.shape[1:],
        "model.image_size",
        "a size, that of the windows that are cut out of the pictures",
        None,
    )
    return model


def compile_model(model, optimizer, recipe, splits):
    """Compiles a model with its own loss and the mean IoU."""
    train = recipe.train
    classes = model.output.shape[-1]
    weights = None
    if train.class_weights == "balanced":
        weights = balanced(splits.train.labels.counts.sum(axis=0, dtype="int64"))
    model.compile(
        optimizer,
        loss=train.loss.split("+"),
        class_weights=weights,
        average=train.average,
        metrics=[keras_vit.metrics.MeanIoU(classes)],
        jit_compile=JIT_COMPILE[train.jit_compile],
    )


def balanced(counts):
    """The weight of each class, by how rare it is: list of K floats.

    Pixels of all classes that occur then weigh the same in sum; one that does not occur has 0.

    Args:
        counts: integer array (K,), its pixels.
    """
    occurs = counts > 0
    weights = counts.sum() / np.maximum(counts, 1) / max(occurs.sum(), 1)
    return np.where(occurs, weights, 0.0).tolist()


def training(recipe, model):
    """The example function of training: a random window with its labels."""
    shape = model.input.shape[1:]
    return training_example(recipe.augment, recipe.data, shape, padding(model))


def validation(split, recipe, model):
    """The windows that show every pixel of a split once, and their example function.

    So the metric of validation counts every pixel once, without overlapping windows; the result of
    the run, on the test pictures, has them.
    """
    shape = model.input.shape[1:]
    example = evaluation_example(recipe.data, shape, padding(model))
    return tiles(split, recipe.data, shape), example


def pictures(split, upright):
    """Yields (uint8 picture (H, W, C), int32 labels (H, W)) of a split, at their own sizes."""
    read, labels = reader(split.images), reader(split.labels)
    for index in range(len(split.labels)):
        picture = read(index).numpy()
        if isinstance(split.images, Encoded):
            picture = load_image(picture, upright)
        yield picture, labels(index).numpy()


def segmented(model, split, upright=True, **how):
    """Yields (picture, labels, predicted classes (H, W)) of a split, some pictures at a time.

    Args:
        model: a model with `segment`.
        split: `Split` with `Masks`.
        upright: bool, whether pictures are turned as their EXIF data say.
        **how: arguments of `model.segment`.
    """
    waiting = []

    def done():
        maps = model.segment([picture for picture, _ in waiting], **how)
        yield from ((*pair, np.asarray(found)) for pair, found in zip(waiting, maps, strict=True))
        waiting.clear()

    for pair in pictures(split, upright):
        waiting.append(pair)
        if len(waiting) == BATCH:
            yield from done()
    if waiting:
        yield from done()


def short_side(data):
    """The argument of `model.segment` for data.fit_into."""
    return {"short_side": data.fit_into[1]} if data.fit_into else {}


def test(job):
    """Segments the test pictures at their own sizes and draws figures; returns `Tested`."""
    model, folder, split = job.model, job.folder, job.splits.test
    classes, names = model.output.shape[-1], job.splits.class_names
    how = {"window": "slide", "batch_size": BATCH, **short_side(job.recipe.data)}
    counts, worst = Counts(classes), []
    for index, (picture, labels, found) in enumerate(
        segmented(model, split, job.recipe.data.upright, **how)
    ):
        counts.add(labels, found)
        score = counts.last_iou()
        if not np.isnan(score):
            worst.append((score, index, picture, labels, found, _name(split, index)))
        worst = sorted(worst, key=lambda item: item[:2])[:WORST]
    measured = counts.measure()
    draw_worst(worst, measured, folder.worst, names)
    if classes <= MATRIX:
        figures.pixel_confusion(measured.confusion, folder.confusion, names)
    result = {f"test_{key}": value for key, value in measured.numbers().items()}
    result["test_images"] = measured.pictures
    return Tested(
        result, title_of(measured), rows_of(measured), mistakes_of(job, measured), samples(job)
    )


def samples(job):
    """Some images of the model from the test pictures."""
    shape = job.model.input.shape[1:]
    example = evaluation_example(job.recipe.data, shape, padding(job.model))
    some = tiles(job.splits.test, job.recipe.data, shape)
    shown = evaluation_dataset(some, SAMPLES, example)
    return next(iter(shown))[0].numpy()


def title_of(measured):
    low, high = measured.interval
    return (
        f"mean IoU {100 * measured.mean_iou:.2f} % ({100 * low:.2f} to {100 * high:.2f}) on "
        f"{measured.pictures:,} test pictures"
    )


def rows_of(measured):
    """The table of the results."""
    low, high = measured.interval
    return [
        ("mean IoU", f"{100 * measured.mean_iou:.2f} %"),
        ("its 95 % interval over pictures", f"{100 * low:.2f} to {100 * high:.2f} % (bootstrap)"),
        ("mean IoU of the most frequent class alone", f"{100 * measured.majority:.2f} %"),
        ("mean Dice", f"{100 * measured.mean_dice:.2f} %"),
        ("mean accuracy of the classes", f"{100 * measured.mean_accuracy:.2f} %"),
        ("pixel accuracy", f"{100 * measured.pixel_accuracy:.2f} %"),
    ]


def mistakes_of(job, measured):
    """The section on mistakes: measures by class, the confusion, the worst pictures."""
    names = job.splits.class_names
    pixels = measured.confusion.sum(axis=1)
    rows = [
        (
            figures.class_name(names, label, 40),
            *(_percent(x[label]) for x in (measured.iou, measured.dice, measured.accuracy)),
            f"{100 * pixels[label] / pixels.sum():.2f} %",
        )
        for label in range(measured.classes)
    ]
    head = ("class", "IoU", "Dice", "accuracy", "share of the pixels")
    found = [table(rows, head)]
    if job.folder.confusion.exists():
        found.append(f"![confusion of pixels]({job.folder.confusion.name})")
    if job.folder.worst.exists():
        found.append(f"![the worst pictures]({job.folder.worst.name})")
    return found


def draw_worst(worst, measured, path, names):
    """Draws the pictures with the lowest mean IoU: picture, labels, prediction."""
    if not worst:
        path.unlink(missing_ok=True)
        return
    classes = measured.classes
    rows = [
        (
            f"{name}: mean IoU {100 * score:.1f} %",
            [
                np.broadcast_to(picture, (*labels.shape, 3)),
                overlays.overlay(picture, labels, classes),
                overlays.overlay(picture, np.where(labels < classes, found, IGNORED), classes),
            ],
            np.union1d(labels, found),
        )
        for score, _, picture, labels, found, name in worst
    ]
    headings = ["picture", "labels", "prediction, where there are labels"]
    overlays.sheet(rows, headings, "The worst test pictures", classes, path, names)


def _name(split, index):
    """The name of a picture in a figure."""
    encoded = isinstance(split.images, Encoded)
    return Path(split.images.name(index)).name if encoded else f"picture {index + 1}"


def summary(result):
    """A sentence on a result."""
    low, high = result["test_interval"]
    return (
        f"Test mean IoU {100 * result['test_mean_iou']:.2f} % (95 % interval {100 * low:.2f} to "
        f"{100 * high:.2f}) on {result['test_images']} pictures after {result['epochs']} epochs"
    )


def _percent(share):
    return "does not occur" if np.isnan(share) else f"{100 * share:.2f} %"


TASK = Task(
    metric="mean_iou",
    title="mean IoU",
    load=source.load,
    build=build,
    compile=compile_model,
    training=training,
    mix=lambda recipe: None,
    validation=validation,
    validation_batch=lambda recipe: recipe.train.batch_size,  # as logits of all pixels fit
    blank=lambda model: tuple(
        np.zeros((1, *shape)) for shape in (model.input.shape[1:], model.output.shape[1:3])
    ),
    ignored=lambda labels: tf.fill(tf.shape(labels), IGNORED),
    fit_head=fit_decoder,
    test=test,
    summary=summary,
)
