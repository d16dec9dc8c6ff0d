"""python -m training.evaluate MODEL: any model on the images of any source.

Letters: N images, B batch, h x w size that the model takes, C channels, K classes.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from training.terminal import fail, quiet

with quiet():
    import keras
    import tensorflow as tf

    import keras_vit
    from keras_vit.models.base import ImageModel
    from training import data, recipe
    from training.augment.transform import evaluation_transform
    from training.data import label_maps, sources
    from training.data.corrupt import without_corrupt
    from training.data.decoding import decode
    from training.data.examples import Encoded, reader
    from training.recipe.tables import DataTable
    from training.results.folder import RunFolder
    from training.results.measures import check_labels, measure

ARRAYS = ("digits", "npz")
EXAMPLES = """examples:
  python -m training.evaluate runs/digits                     the test images of a run once more
  python -m training.evaluate runs/pets --source folder:PATH --split val
  python -m training.evaluate google/vit-base-patch16-224 --source folder:imagenetv2 --labels \\
      imagenet-v2
  python -m training.evaluate model.keras --source folder:imagenet/val --labels real:real.json
"""


def evaluate(model, split, classes=None, transform=None, batch_size=64, verbose=0):
    """Measures a model on images; of these never more than some batches are in memory.

    Args:
        model: `keras.Model` from images (B, h, w, C) to logits (B, K).
        split: `Split` of N images, encoded or arrays; its labels as
            `training.results.measures.measure` takes them.
        classes: sorted integer array, the classes that compete; None for all.
        transform: function from an image or its bytes to what the model takes; by default
            `transform_of(model)`.
        batch_size: int, B.
        verbose: as in `keras.Model.predict`.

    Returns:
        `Evaluation`.

    Raises:
        ValueError: for labels that the model has no logit for, images of another shape, files that
            are no whole pictures.

    Example:
        >>> test = training.data.load(DataTable("digits"), num_classes=10).test
        >>> print(evaluate(model, test))  # after 12 epochs of the recipe digits
        top-1 87.47 %, top-5 99.72 %, loss 0.6021, calibration error 24.07 % on 359 images of ...
    """
    check_labels(split.labels, model.output.shape[-1] if classes is None else classes)
    read, transform = reader(split.images), transform or transform_of(model)
    images = tf.data.Dataset.range(len(split.images))
    images = images.map(lambda i: transform(read(i)), num_parallel_calls=tf.data.AUTOTUNE)
    images = images.batch(batch_size).prefetch(tf.data.AUTOTUNE)
    try:
        logits = model.predict(images, verbose=verbose)  # (N, K)
    except tf.errors.OpError:
        without_corrupt(split, "test", 0, at_most=0)  # it raises and says which image it was
        raise
    return measure(logits, split.labels, classes)


def transform_of(model):
    """How a picture of any size becomes what a model takes.

    Args:
        model: `keras.Model` on images (B, h, w, C).

    Returns:
        A function to a float32 image (h, w, C), from an image or from the bytes of a file:
        by `model.preprocessor`; for a model without one that takes pixels 0..255, by
        `training.augment.transform.evaluation_transform` with its defaults.

    Raises:
        ValueError: for a model of which nobody knows what it takes.
    """
    preprocessor, shape = getattr(model, "preprocessor", None), model.input.shape[1:]
    ours = isinstance(model, ImageModel)
    takes_pixels = model.get_config()["include_preprocessing"] if ours else preprocessor is None
    if preprocessor is None:
        if not takes_pixels or None in shape:
            raise ValueError(
                "A model must say what it takes: include_preprocessing=True and a fixed "
                "image_size, or preprocessor=keras_vit.Preprocessor(...). Received: images of "
                f"shape {shape}, normalised in a way that it does not say"
            )
        return evaluation_transform(DataTable(source=""), shape)
    config = {**preprocessor.get_config(), "dtype": "float32"}
    if takes_pixels:
        config |= {"mean": [0.0] * shape[-1], "std": [1 / 255] * shape[-1]}
    preprocess = keras_vit.Preprocessor.from_config(config)

    def transform(image):
        image = decode(image, shape[-1]) if image.dtype == tf.string else image
        image = preprocess(image)
        image = tf.round(image) if takes_pixels else image
        return tf.ensure_shape(image, (*preprocess.image_size, shape[-1]))

    return transform


def load(name):
    """A model by name, and the run that it is of.

    Args:
        name: a run folder, a .keras file, or what `keras_vit.from_pretrained` takes.

    Returns:
        (`keras.Model` from images to logits, `RunFolder` or None).

    Raises:
        ValueError: for what is none of these, and for a model without logits.
    """
    folder, path = RunFolder(name), Path(name)
    run = folder if folder.recipe.exists() else None
    if run and not run.checkpoint.exists():
        raise ValueError(f"The run must have finished an epoch. Received: {name}")
    if run or (path.suffix == ".keras" and path.is_file()):
        try:
            model = keras.models.load_model(run.checkpoint if run else path, compile=False)
        except (OSError, TypeError, ValueError, LookupError) as error:
            raise ValueError(f"A model must be whole: {error}. Received: {name}") from error
    else:
        model = keras_vit.from_pretrained(name)
    shape = model.output.shape
    if len(shape) != 2 or shape[-1] < 2 or model.get_config().get("num_classes", 2) is None:
        raise ValueError(
            f"A model must give logits of two classes or more. Received: {name} with outputs "
            f"{shape}, {'features' if len(shape) == 2 and shape[-1] > 1 else 'no logits'}"
        )
    return model, run


def read(table, name, num_classes, examples=None):
    """One split of a source.

    Args:
        table: `DataTable`.
        name: str, a split of the source; "" for its test images, or for all of a source that is not
            split. Arrays have train, validation and test.
        num_classes: int, K.
        examples: as in `training.data.load`; if given, the splits are those of the run.

    Returns:
        (`Split`, class names: list of str or None).

    Raises:
        ValueError: as `training.data.load`, and for an unknown split.
    """
    kind, _, where = table.source.partition(":")
    if examples is not None or kind in ARRAYS:
        splits = data.load(table, num_classes, examples)
        _check_name(name or "test", ["train", "validation", "test"])
        return getattr(splits, name or "test"), splits.class_names
    if kind == "folder" and Path(where).is_dir():
        # Classes are those of the training images where there are any.
        folders = sources.folders(Path(where))
        tests = [n for n in (name, *sources.TEST_NAMES) if n in folders]
        classes_of = "train" if "train" in folders or not tests else tests[0]
        table = dataclasses.replace(table, train_split=classes_of)
    source = data.encoded_source(table)
    if not source.names and not name:
        return source.read(""), source.class_names
    name = name or next((n for n in sources.TEST_NAMES if n in source.names), "")
    _check_name(name, source.names)
    return source.read(name), source.class_names


def main(arguments=None):
    """Runs the command; returns its exit code: 0 done, 2 for a mistake of the user."""
    options = _parser().parse_args(arguments)
    try:
        name, found = _evaluate(options)
    except (OSError, ValueError) as error:
        return fail(error, 2)
    if options.json:
        print(json.dumps({"model": options.model, "source": name, **dataclasses.asdict(found)}))
    else:
        print(found)
    return 0


def _evaluate(options):
    """(what it was measured on, `Evaluation`) of the command line's options."""
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be positive. Received: {options.batch_size}")
    model, run = load(options.model)
    table = recipe.read_of_run(run.recipe).data if run else None
    if options.source is None and run is None:
        raise ValueError(f"--source is needed but for a run folder. Received: {options.model}")
    # A run's own images as the run saw them, so that its result comes again.
    own = run is not None and options.source in (None, table.source)
    transform = evaluation_transform(table, model.input.shape[1:]) if run else transform_of(model)
    if not own:
        table = DataTable(
            options.source, data_dir=options.data_dir, first_label=options.first_label
        )
    kind, _, where = table.source.partition(":")
    if own and kind == "tfds" and options.data_dir:
        raise ValueError(
            "A run's own images are where the run found them: leave --data-dir out. "
            f"Received: --data-dir {options.data_dir}"
        )
    _check_used(options, "" if own else kind)
    if options.labels.startswith("real:"):
        if kind != "folder":
            raise ValueError(
                f"--labels real:PATH needs --source folder:PATH. Received: {table.source}"
            )
        labels = Path(options.labels.removeprefix("real:"))
        split, classes = label_maps.real(Path(where), labels), None
    else:
        examples = run.examples if own else None
        split, names = read(table, options.split, model.output.shape[-1], examples)
        split, classes = label_maps.target(options.labels, split, names, model)
    resizes = run is None and getattr(model, "preprocessor", None) is not None
    _check_shape(split.images, model, resizes)
    verbose = int(sys.stdout.isatty() and not options.json)
    return table.source, evaluate(model, split, classes, transform, options.batch_size, verbose)


def _check_used(options, kind):
    """Raises for an option that would change nothing, with a source of a kind, "" for a run's."""
    for name, given, used, needs in (
        ("--data-dir", options.data_dir, kind == "tfds", "--source tfds:NAME"),
        ("--first-label", options.first_label, kind == "tfrecord", "--source tfrecord:GLOB"),
        ("--split", options.split, not options.labels.startswith("real:"), "other --labels"),
    ):
        if given and not used:
            raise ValueError(f"{name} needs {needs}. Received: {name} {given}")


def _check_name(name, names):
    if name not in names:
        among = f"one of {', '.join(names)}" if names else "left out for a source that is not split"
        raise ValueError(f"--split must be {among}. Received: --split {name!r}")


def _check_shape(images, model, transform_resizes):
    """Raises for arrays that the model does not take as they are."""
    expected = model.input.shape[1:]
    if isinstance(images, Encoded):
        fits = expected[-1] in (1, 3)
        found = "picture files, which have 1 or 3"
    else:
        found = images.shape[1:]
        fits = found[-1] == expected[-1] and (transform_resizes or found == expected)
    if not fits:
        raise ValueError(
            f"The model takes images of shape {expected}, channels last. Received: {found}"
        )


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Measures any model on the images of any source: accuracy, loss, calibration.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", help="a run folder, a .keras file, or what keras_vit.from_pretrained takes"
    )
    parser.add_argument(
        "--source",
        help="digits, npz:PATH, folder:PATH, tfds:NAME or tfrecord:GLOB (default: that of the run)",
    )
    parser.add_argument("--split", default="", help="default: the test images, or all there are")
    parser.add_argument(
        "--labels",
        default="",
        metavar="MAP",
        help=f"{', '.join(label_maps.NAMES)} (default: by name where the model has names)",
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--data-dir", default="", help="where tensorflow-datasets keeps its data")
    parser.add_argument(
        "--first-label", type=int, default=0, help="what a TFRecord calls the first class"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
