"""Values that a recipe leaves to the data: "auto", and the numbers that take its place.

Letters: N training images, B images a step, U images an update.
"""

import dataclasses
import math

import numpy as np

from .model_schema import AUTO

VALIDATION, MOST_VALIDATION = 0.1, 5000  # share of the images; most of them
IMAGES_PER_DEVICE = 32  # a step, as a GPU of 8 GiB takes of a ViT-B/16 at 224 pixels
EPOCHS, FEWEST_UPDATES, MOST_UPDATES = 9, 100, 4000
WARMUP = 0.05  # share of the steps
EMA = 0.1  # the average is over about this share of the updates
RATES = {"all": 3e-4, "head": 1e-3, "lora": 5e-4}  # for U = 16, by finetune.train
MOST_FASTER = 2.0


def validation_share(labels):
    """The share of every class that is held out where data.validation is "auto".

    A tenth, of more than 50,000 images 5,000; of classes so small that a tenth of them is less
    than one image, as much as is one image of the median class.

    Args:
        labels: of all images that are not for the test; see `strata`.
    """
    labels = strata(labels)
    share = min(VALIDATION, MOST_VALIDATION / len(labels))
    counts = np.unique(labels, return_counts=True)[1]
    return round(float(min(max(share, 1 / np.median(counts)), 0.5)), 4)


def strata(labels):
    """The class of every example, integer array (N,); zeros for masks and boxes."""
    plain = isinstance(labels, np.ndarray) and labels.ndim == 1
    return labels if plain else np.zeros(len(labels), int)


def present(labels):
    """The classes that occur in the labels of a split, a sorted integer array."""
    return np.unique(labels) if isinstance(labels, np.ndarray) else labels.classes()


def number_of_classes(class_names, *labels):
    """How many classes there are where model.num_classes is "auto": the names, or the labels."""
    return len(class_names) if class_names else 1 + max(int(x.max()) for x in labels if len(x))


def derive(recipe, splits, devices):
    """A recipe with numbers for all that it leaves to the data.

    - `data.validation`: see `validation_share`.
    - `model.num_classes`: that of the source, such as its folders.
    - `train.batch_size`: B is U, but at most 32 a device; U is the power of two next to the square
      root of N, from 8 to 256.
    - `optimizer.accumulate`: the steps that make up U images.
    - `train.epochs`: 9, or as many as make 100 updates; where these are more than 4,000, as many
      as make 4,000, but 3 at least.
    - `optimizer.warmup_steps`: a twentieth of the steps.
    - `optimizer.ema`: an average over the last tenth of the updates; none if they are less than 20.
    - `optimizer.learning_rate`: by `finetune.train`, times the square root of U / 16, 2 at most.

    Each is derived from the others as they are in force, so an override moves those that follow.

    Args:
        recipe: `Recipe`.
        splits: `Splits`, whose validation images are held out already.
        devices: `Devices`.

    Returns:
        (`Recipe`, dict of "table.key" to value, what was derived).
    """
    tables = {name: {} for name in ("model", "data", "optimizer", "train")}

    def value(table, key, found):
        given = getattr(recipe, table)
        given = given.all_arguments()[key] if table == "model" else getattr(given, key)
        if given != AUTO:
            return given
        tables[table][key] = found
        return found

    train, held_out, test = splits[:3]
    not_for_test = np.concatenate([strata(train.labels), strata(held_out.labels)])
    value("data", "validation", validation_share(not_for_test))
    if "num_classes" in recipe.model.all_arguments():
        labels = (train.labels, held_out.labels, test.labels)
        value("model", "num_classes", number_of_classes(splits.class_names, *labels))

    size = len(train.labels)
    update = min(max(2 ** round(math.log2(size) / 2), 8), 256)
    # Keras cannot accumulate under tf.distribute.
    at_once = devices.tf_strategy is not None
    pieces = update if at_once else min(update, IMAGES_PER_DEVICE * devices.count)
    batch_size = max(min(pieces, size) // devices.count, 1) * devices.count
    batch_size = value("train", "batch_size", batch_size)
    accumulate = 1 if at_once else max(round(update / batch_size), 1)
    accumulate = value("optimizer", "accumulate", accumulate)
    updates = max(size // batch_size / accumulate, 1 / accumulate)  # of an epoch
    epochs = min(max(EPOCHS, FEWEST_UPDATES / updates), max(MOST_UPDATES / updates, 3))
    epochs = value("train", "epochs", math.ceil(epochs))

    steps = epochs * max(size // batch_size, 1)
    value("optimizer", "warmup_steps", min(max(round(WARMUP * steps), accumulate), steps - 1))
    average = EMA * steps / accumulate
    value("optimizer", "ema", round(1 - 1 / average, 4) if average >= 2 else 0.0)
    faster = min(math.sqrt(batch_size * accumulate / 16), MOST_FASTER)
    rate = RATES[recipe.finetune.train] * faster
    value("optimizer", "learning_rate", float(f"{rate:.2g}"))

    changed = {
        name: dataclasses.replace(getattr(recipe, name), **found)
        for name, found in tables.items()
        if found and name != "model"
    }
    if tables["model"]:
        arguments = recipe.model.arguments | tables["model"]
        changed["model"] = dataclasses.replace(recipe.model, arguments=arguments)
    derived = {f"{name}.{key}": x for name, found in tables.items() for key, x in found.items()}
    return dataclasses.replace(recipe, **changed), derived
