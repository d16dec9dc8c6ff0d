"""python -m training.evaluate MODEL: evaluates any model on the images of any source.

Letters: K classes.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from .terminal import EVALUATE, fail, packages, quiet

with packages(end=__name__ == "__main__"), quiet():
    from . import data, recipe
    from .augment.transform import evaluation_transform
    from .data import label_maps, sources
    from .data.examples import Encoded
    from .recipe.schema import DataTable
    from .results.evaluation import evaluate, load, transform_of

__all__ = ["evaluate", "load", "main", "read", "transform_of"]

ARRAYS = ("digits", "npz")
EXAMPLES = f"""examples:
  {EVALUATE} runs/digits                     the test images of the run
  {EVALUATE} runs/pets --source folder:PATH --split val
  {EVALUATE} google/vit-base-patch16-224 --source folder:imagenetv2 --labels \\
      imagenet-v2
  {EVALUATE} model.keras --source folder:imagenet/val --labels real:real.json
"""


def read(table, name, num_classes, examples=None):
    """Reads one split of a source.

    Args:
        table: `DataTable`.
        name: str, a split of the source; "" for its test images, or for all images of a source
            without splits. Arrays have train, validation and test.
        num_classes: int, K.
        examples: argument of `training.data.load`; if given, the splits are those of the run.

    Returns:
        (`Split`, class names: list of str or None).

    Raises:
        ValueError: as in `training.data.load`, or if the split does not exist.
    """
    kind, _, where = table.source.partition(":")
    if examples is not None or kind in ARRAYS:
        splits = data.load(table, num_classes, examples)
        _check_name(name or "test", ["train", "validation", "test"])
        return getattr(splits, name or "test"), splits.class_names
    if kind == "folder" and Path(where).is_dir():
        # The classes are those of the training images, if there are any.
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
    """Runs the command; returns its exit code: 0 for success, 2 for a user error."""
    options = _parser().parse_args(arguments)
    try:
        name, found = _evaluate(options)
    except (ImportError, OSError, ValueError) as error:
        return fail(error, 2)
    if options.json:
        print(json.dumps({"model": options.model, "source": name, **dataclasses.asdict(found)}))
    else:
        print(found)
    return 0


def _evaluate(options):
    """(source, `Evaluation`) for the options of the command line."""
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be positive. Received: {options.batch_size}")
    model, run = load(options.model)
    table = recipe.read_of_run(run.recipe).data if run else None
    if options.source is None and run is None:
        raise ValueError(
            f"--source is needed unless the model is a run folder. Received: {options.model}"
        )
    # The images of the run, transformed as in the run, to get the same result.
    own = run is not None and options.source in (None, table.source)
    transform = evaluation_transform(table, model.input.shape[1:]) if run else transform_of(model)
    if not own:
        table = DataTable(
            options.source, data_dir=options.data_dir, first_label=options.first_label
        )
    kind, _, where = table.source.partition(":")
    if own and kind == "tfds" and options.data_dir:
        raise ValueError(
            "The images of a run are read from their folder in the run: leave --data-dir out. "
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
    """Raises a `ValueError` for an option without effect.

    Args:
        options: options of the command line.
        kind: str, kind of the source; "" for the source of the run.
    """
    for name, given, used, needs in (
        ("--data-dir", options.data_dir, kind == "tfds", "--source tfds:NAME"),
        ("--first-label", options.first_label, kind == "tfrecord", "--source tfrecord:GLOB"),
        ("--split", options.split, not options.labels.startswith("real:"), "other --labels"),
    ):
        if given and not used:
            raise ValueError(f"{name} needs {needs}. Received: {name} {given}")


def _check_name(name, names):
    if name not in names:
        among = f"one of {', '.join(names)}" if names else "left out: the source is not split"
        raise ValueError(f"--split must be {among}. Received: --split {name!r}")


def _check_shape(images, model, transform_resizes):
    """Raises a `ValueError` for images that the model does not take."""
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
        prog=EVALUATE,
        description="Evaluates any model on the images of any source: accuracy, loss, calibration.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", help="a run folder, a .keras file, or a source for keras_vit.from_pretrained"
    )
    parser.add_argument(
        "--source",
        help="digits, npz:PATH, folder:PATH, tfds:NAME or tfrecord:GLOB (default: that of the run)",
    )
    parser.add_argument("--split", default="", help="default: the test images, or all images")
    parser.add_argument(
        "--labels",
        default="",
        metavar="MAP",
        help=f"{', '.join(label_maps.NAMES)} (default: by name if the model has names)",
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--data-dir", default="", help="folder of tensorflow-datasets")
    parser.add_argument(
        "--first-label", type=int, default=0, help="label of the first class in TFRecord files"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
