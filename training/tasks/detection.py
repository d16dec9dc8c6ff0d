"""Detection: a box and a class for every object of a picture.

Letters: N pictures, B batch, H x W size of a batch, M most objects of a picture, Q queries,
K classes.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_vit

from ..augment.detection import evaluation_example, training_example
from ..data import detection as source
from ..data.padding import padded, said, sides_of
from ..data.pipeline import WHOLE_BATCH, evaluation_dataset
from ..recipe.schema import JIT_COMPILE, AugmentTable, ModelTable, require
from ..results.detections import Detections
from .detection_report import mistakes_of, rows_of, title_of
from .sourced import rebuilt, with_settings
from .task import Task, Tested

SAMPLES = 4
# Arguments of [model] on which no weight of a source depends.
FREE = (
    "query_groups",
    "denoising",
    "dropout_rate",
    "attention_dropout_rate",
    "class_ids",
    "remat",
    "frozen_layers",
)


def build(recipe, class_names):
    """The model of a recipe, on normalised images.

    `finetune.source` gives a whole detector, or a backbone; without it a backbone is built from
    model.backbone, the name of a variant or a table of one with its arguments.
    """
    arguments = dict(recipe.model.arguments)
    classes = recipe.model.all_arguments()["num_classes"]
    if class_names and len(class_names) == classes:
        arguments.setdefault("class_names", list(class_names))
    backbone, precision = arguments.pop("backbone", None), recipe.train.precision
    tuned = recipe.finetune
    if tuned.source:
        require(backbone is None, "model.backbone", "left out beside finetune.source", backbone)
        size = arguments.get("image_size")
        found = _from_source(tuned, size, classes, precision)
        if isinstance(found, recipe.model.family):
            found = with_settings(found, arguments, FREE, precision, "backbone")
            return _trained(found, recipe)
        arguments.pop("image_size", None)
        backbone = found
    elif isinstance(backbone, dict):
        backbone = dict(backbone)
        table = ModelTable(backbone.pop("variant"), backbone)
        backbone = table.factory(num_classes=None, **backbone, dtype=precision)
    if backbone is not None:
        arguments["backbone"] = backbone
    return _trained(recipe.model.factory(dtype=precision, **arguments), recipe)


def _from_source(tuned, image_size, classes, precision):
    """The model of finetune.source, a ResNet as the authors of DETR train it.

    Its batch normalisations, its stem and its first stage stay as they are, and it takes images of
    any size.
    """
    if Path(tuned.source).suffix == ".keras":  # its arguments are its own
        found = keras_vit.from_pretrained(tuned.source)
        if isinstance(found, keras_vit.DETR):
            return _with_classes(found, classes, precision)
    settings = {"like": tuned.like or None, "num_classes": classes, "dtype": precision}
    if image_size is not None:
        settings["image_size"] = image_size
    found = keras_vit.from_pretrained(tuned.source, **settings)
    if isinstance(found, keras_vit.ResNet):
        found = keras_vit.from_pretrained(
            tuned.source, **{"image_size": None, **settings}, batch_norm="frozen"
        )
        for layer in found.layers:
            if layer.name.startswith(("stem", "stage0")):
                layer.trainable = False
    return found


def _with_classes(model, classes, precision):
    """A detector with the weights of another, and a new head if it has other classes."""
    changes = {}
    if classes != model.num_classes:
        changes = {"num_classes": classes, "class_names": None, "class_ids": None}
    return rebuilt(model, changes, precision, "backbone")


def _trained(model, recipe):
    """The model, with the backbone frozen if finetune.train is "head"."""
    if recipe.finetune.train == "head":
        shares = keras_vit.optimizers.backbone_shares(model, 0.0)
        frozen = {
            v.path.partition("/")[0]
            for v, share in zip(model.trainable_variables, shares, strict=True)
            if not share
        }
        for layer in model.layers:
            if layer.name in frozen:
                layer.trainable = False
    return model


def compile_model(model, optimizer, recipe, splits):
    """Compiles a model with its own loss; its classes get the ids of the data set."""
    Detections(splits.validation.labels[:1])  # raises now if its package is missing
    ids = splits.train.labels.class_ids.tolist()
    gaps = len(ids) == model.num_classes and ids != list(range(len(ids)))
    model.class_ids = ids if gaps else None  # a source may have those of other data
    model.compile(
        optimizer,
        no_object_weight=recipe.train.no_object_weight,
        jit_compile=JIT_COMPILE[recipe.train.jit_compile],
    )


def training(recipe, model):
    """The example function of training: a random scale, crop and flip of a picture."""
    return training_example(recipe.augment, recipe.data, model.input.shape[-1])


def validation(split, recipe, model):
    """The split itself, and its example function."""
    return split, evaluation_example(recipe.data, model.input.shape[-1])


def batches(recipe, model, split):
    """The function that pads examples to a few sizes and batches them, see `Plan.batches`."""
    return padded_for(model, split, recipe.data, recipe.augment)


def padded_for(model, split, data, augment):
    """`training.data.padding.padded` with what a model and the boxes of a split need."""
    sides = sides_of(data, augment, split.labels.sizes)
    most = max(min(int(split.labels.counts.max(initial=0)), model.num_queries), 1)
    return padded(sides, most, **normalisation(model))


def normalisation(model):
    """How images are normalised and padded for a model: mean, std, fill of `padded`."""
    channels = model.input.shape[-1]
    mean, std = model.preprocessor.mean, model.preprocessor.std
    if model.takes_pixels:  # the model normalises: what it takes to 0 is around the picture
        pixels = tuple(255.0 * x for x in (mean * channels if len(mean) == 1 else mean))
        return {"mean": 0.0, "std": 1 / 255, "fill": pixels}
    return {"mean": mean, "std": std}


def batch_size(model, size):
    """The size of the batches of an evaluation: 1 where padding would change the result."""
    dilated = model.get_config().get("dilation")  # DC5, trained with one picture at a time
    return 1 if dilated else size


def detected(model, split, data, size):
    """Yields what a model finds in the pictures of a split, by all queries, whatever the score.

    Args:
        model: `keras_vit.DETR`.
        split: `Split` with `Boxes`.
        data: `DataTable`, for the sizes of pictures and batches.
        size: int, B.

    Returns:
        Generator of (index, boxes (Q, 4) x0, y0, x1, y1 in pixels of the picture, scores (Q,),
        classes (Q,)).
    """
    # The last batch is filled up, so that it is of the same size as the others.
    shown = evaluation_dataset(
        split,
        size,
        evaluation_example(data, model.input.shape[-1]),
        WHOLE_BATCH,
        nothing,
        padded_for(model, split, data, AugmentTable()),
    )
    sizes, index = split.labels.sizes, 0
    for inputs, _ in shown.as_numpy_iterator():
        outputs = model.predict_on_batch(inputs)
        own = sizes[index : index + size]
        outputs = {key: np.asarray(outputs[key])[: len(own)] for key in ("logits", "boxes")}
        for found in keras_vit.tasks.detr.detections.decode(outputs, own):
            yield index, found.boxes, found.scores, found.labels
            index += 1


def nothing(target):
    """A target without objects."""
    return tf.nest.map_structure(tf.zeros_like, target)


def measured(model, split, data, size, class_names=None):
    """The `Detections` of a model in a split; arguments as `detected`."""
    found, classes = Detections(split.labels, class_names), classes_of(model, split.labels)
    for index, boxes, scores, outputs in detected(model, split, data, size):
        found.add(index, boxes, scores, classes[outputs])
    return found


def classes_of(model, boxes):
    """The class of `Boxes` that each output of a model is, integer array (K,); -1 for none."""
    if model.class_ids is None:
        numbers = np.arange(model.num_classes)
        return np.where(numbers < len(boxes.class_ids), numbers, -1)
    places = {number: place for place, number in enumerate(boxes.class_ids.tolist())}
    return np.array([places.get(number, -1) for number in model.class_ids])


def validated(job):
    """The function that measures a model on the validation pictures after an epoch.

    None with several processes of TensorFlow and JAX, which cannot predict alone: there AP is that
    of the test pictures at the end.
    """
    several = job.devices.group.world_size > 1
    if several and keras.backend.backend() != "torch":
        return None
    devices = 1 if several else job.devices.count
    size = -(-batch_size(job.model, job.recipe.train.batch_size) // devices) * devices

    def measure(model):
        found = measured(model, job.splits.validation, job.recipe.data, size)
        result = found.metric.result()
        return {key: max(result[key], 0.0) for key in ("AP", "AP50")}

    return measure


def notes(recipe, splits):
    """Notes at the start of a run: to which sizes batches are padded."""
    for split in (splits.validation, splits.test):
        if len(split.labels):  # raises now, not at the end of the run
            sides_of(recipe.data, AugmentTable(), split.labels.sizes)
    return [said(sides_of(recipe.data, recipe.augment, splits.train.labels.sizes))]


def blank(model):
    """Inputs and targets of a batch of one, for the variables of metrics and optimizer."""
    height, width, channels = (side or 64 for side in model.input.shape[1:])
    images = np.zeros((1, height, width, channels), "float32")
    target = {
        "boxes": np.zeros((1, 1, 4), "float32"),
        "labels": np.zeros((1, 1), "int32"),
        "count": np.zeros((1,), "int32"),
    }
    return {"images": images, "valid": np.ones((1, height, width), bool)}, target


def test(job):
    """Measures the test pictures at their own sizes and draws figures; returns `Tested`."""
    size = batch_size(job.model, job.recipe.train.batch_size)
    data, names = job.recipe.data, job.splits.class_names
    found = measured(job.model, job.splits.test, data, size, names)
    result = found.measure()
    numbers = {f"test_{key}": value for key, value in result.numbers().items()}
    numbers["test_images"] = result.pictures
    return Tested(
        numbers,
        title_of(result),
        rows_of(result),
        mistakes_of(job, found, result),
        samples(job),
    )


def samples(job):
    """Some images of the model from the test pictures, of one size."""
    _, example = validation(job.splits.test, job.recipe, job.model)
    shown = evaluation_dataset(
        job.splits.test, SAMPLES, example, batches=batches(job.recipe, job.model, job.splits.test)
    )
    return next(iter(shown))[0]["images"].numpy()


def summary(result):
    """A sentence on a result."""
    low, high = result["test_AP50_interval"]
    return (
        f"Test AP {100 * result['test_AP']:.2f} %, AP50 {100 * result['test_AP50']:.2f} % (95 % "
        f"interval {100 * low:.2f} to {100 * high:.2f}) on {result['test_images']} pictures after "
        f"{result['epochs']} epochs"
    )


TASK = Task(
    metric="AP",
    title="AP",
    load=source.load,
    build=build,
    compile=compile_model,
    training=training,
    mix=lambda recipe: None,
    batches=batches,
    validation=validation,
    validation_batch=lambda recipe: recipe.train.batch_size,
    validated=validated,
    blank=blank,
    ignored=nothing,
    fit_head=None,  # `training.recipe.kinds` refuses finetune.head = "fitted"
    test=test,
    summary=summary,
    notes=notes,
)
