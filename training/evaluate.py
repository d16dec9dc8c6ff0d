"""python -m training.evaluate MODEL: evaluates any model on the images of any source.

Models that classify images get accuracy and calibration; models that segment them, mean IoU;
detectors, COCO's average precision; masked autoencoders, their loss.

Letters: K classes.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from .terminal import EVALUATE, fail, packages, quiet

with packages(end=__name__ == "__main__"), quiet():
    from keras_vit.tasks.reconstruction import ReconstructsImages

    from . import data, recipe, tasks
    from .augment.transform import evaluation_transform
    from .data import detection, label_maps, segmentation, sources
    from .data.examples import Encoded
    from .recipe.model_schema import AUTO
    from .recipe.schema import DataTable
    from .results.evaluation import evaluate, load, transform_of
    from .results.pixels import Counts

__all__ = ["evaluate", "load", "main", "read", "transform_of"]

ARRAYS = ("digits", "npz")
OF_SEGMENTATION = ("flip", "stride", "scales", "window", "short_side", "reduce_zero_label")
BATCH = 64  # images; windows have logits for every pixel, so fewer fit
DETECTION_BATCH = 4  # large pictures
COCO_IDS = 91  # outputs of a detector that are COCO's category ids themselves
EXAMPLES = f"""examples:
  {EVALUATE} runs/digits                     the test images of the run
  {EVALUATE} runs/pets --source folder:PATH --split val
  {EVALUATE} google/vit-base-patch16-224 --source folder:imagenetv2 --labels \\
      imagenet-v2
  {EVALUATE} model.keras --source folder:imagenet/val --labels real:real.json
  {EVALUATE} runs/camvid_setr                the test pictures of a segmentation
  {EVALUATE} runs/camvid_setr --flip --scales 0.5 0.75 1 1.25 1.5 1.75
  {EVALUATE} facebook/detr-resnet-50 --source coco:COCO --split val2017
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
        numbers = found.numbers() if hasattr(found, "numbers") else dataclasses.asdict(found)
        print(json.dumps({"model": options.model, "source": name, **numbers}))
    else:
        print(found)
    return 0


def _evaluate(options):
    """(source, `Evaluation` or `Segmented`) for the options of the command line."""
    if options.batch_size is not None and options.batch_size < 1:
        raise ValueError(f"--batch-size must be positive. Received: {options.batch_size}")
    model, run = load(options.model)
    detects = isinstance(model.output, dict) and "boxes" in model.output
    if options.size and not detects:
        raise ValueError(f"--size is for detectors. Received: {options.model}")
    if isinstance(model, ReconstructsImages):
        return _reconstruct(options, model, run)
    if not detects and len(model.output.shape) == 4:
        return _segment(options, model, run)
    for name in OF_SEGMENTATION:
        if getattr(options, name):
            raise ValueError(
                f"--{name.replace('_', '-')} is for models that segment pictures. "
                f"Received: {options.model}, which {'detects' if detects else 'classifies them'}"
            )
    if detects:
        return _detect(options, model, run)
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
    return table.source, evaluate(
        model, split, classes, transform, options.batch_size or BATCH, verbose
    )


def _segment(options, model, run):
    """(source, `Segmented`) of a model that segments pictures."""
    table = recipe.read_of_run(run.recipe).data if run else None
    if options.source is None and run is None:
        raise ValueError(
            f"--source is needed unless the model is a run folder. Received: {options.model}"
        )
    if options.labels:
        raise ValueError(
            f"--labels is for models that classify images. Received: --labels {options.labels}"
        )
    own = run is not None and options.source in (None, table.source)
    if not own:
        given = {"data_dir": options.data_dir, "reduce_zero_label": options.reduce_zero_label}
        table = DataTable(options.source, **given)
    elif options.reduce_zero_label:
        raise ValueError(
            "The masks of a run are read as its recipe says: leave --reduce-zero-label out. "
            "Received: --reduce-zero-label"
        )
    classes = model.output.shape[-1]
    if own and run.examples.exists():
        splits = segmentation.load(table, classes, run.examples)
        _check_name(options.split or "test", ["train", "validation", "test"])
        split = getattr(splits, options.split or "test")
    else:
        split, _ = segmentation.read(table, options.split, classes)
    how = {
        "window": options.window or "slide",
        "stride": options.stride,
        "scales": tuple(options.scales or (1.0,)),
        "flip": options.flip,
        "batch_size": options.batch_size or tasks.segmentation.BATCH,
        **tasks.segmentation.short_side(table),
    }
    if options.short_side:
        how["short_side"] = options.short_side
    counts = Counts(classes)
    for _, labels, found in tasks.segmentation.segmented(model, split, table.upright, **how):
        counts.add(labels, found)
    return table.source, counts.measure()


def _reconstruct(options, model, run):
    """(source, `Reconstructed`) of a masked autoencoder."""
    for name in (*OF_SEGMENTATION, "labels"):
        if getattr(options, name):
            raise ValueError(
                f"--{name.replace('_', '-')} is for models with classes. "
                f"Received: {options.model}, a masked autoencoder"
            )
    table = recipe.read_of_run(run.recipe).data if run else None
    if options.source is None and run is None:
        raise ValueError(
            f"--source is needed unless the model is a run folder. Received: {options.model}"
        )
    own = run is not None and options.source in (None, table.source)
    if not own:
        given = {"data_dir": options.data_dir, "first_label": options.first_label}
        table = DataTable(options.source, **given)
    _check_used(options, "" if own else table.source.partition(":")[0])
    split, _ = read(table, options.split, AUTO, run.examples if own else None)
    transform = evaluation_transform(table, model.input.shape[1:]) if run else transform_of(model)
    return table.source, tasks.masked.measured(model, split, transform)


def _detect(options, model, run):
    """(source, `Detected`) of a detector."""
    table = recipe.read_of_run(run.recipe).data if run else None
    if options.source is None and run is None:
        raise ValueError(
            f"--source is needed unless the model is a run folder. Received: {options.model}"
        )
    if options.labels:
        raise ValueError(
            f"--labels is for models that classify images. Received: --labels {options.labels}"
        )
    own = run is not None and options.source in (None, table.source)
    if not own:
        table = DataTable(
            options.source,
            data_dir=options.data_dir,
            raw_ids=model.class_ids is None and model.num_classes == COCO_IDS,
            fit_into=table.fit_into if run else _fit_into(model),
        )
    if options.size:
        table = dataclasses.replace(table, fit_into=tuple(options.size[::-1]), pad_to=())
    if own and run.examples.exists():
        splits = detection.load(table, model.num_classes, run.examples)
        _check_name(options.split or "test", ["train", "validation", "test"])
        split, names = getattr(splits, options.split or "test"), splits.class_names
    else:
        split, names = detection.read(table, options.split, AUTO)
    size = options.batch_size or tasks.detection.batch_size(model, DETECTION_BATCH)
    return table.source, tasks.detection.measured(model, split, table, size, names).measure()


def _fit_into(model):
    """`DataTable.fit_into` of the preprocessor of a model; () for the pictures' own size."""
    preprocessor = model.preprocessor
    if getattr(preprocessor, "resize", None) != "fit":
        return ()
    short, longest = preprocessor.image_size
    return longest, short


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
        help="such as digits, folder:PATH, coco:PATH, tfds:NAME or tfrecord:GLOB (default: that of "
        "the run)",
    )
    parser.add_argument("--split", default="", help="default: the test images, or all images")
    parser.add_argument(
        "--labels",
        default="",
        metavar="MAP",
        help=f"{', '.join(label_maps.NAMES)} (default: by name if the model has names)",
    )
    parser.add_argument(
        "--batch-size", type=int, help="default: 64 images, 8 windows, 4 pictures of a detector"
    )
    parser.add_argument("--data-dir", default="", help="folder of tensorflow-datasets")
    parser.add_argument(
        "--first-label", type=int, default=0, help="label of the first class in TFRecord files"
    )
    group = parser.add_argument_group("models that segment pictures")
    group.add_argument(
        "--window",
        choices=("slide", "whole"),
        help="windows that overlap (the default), or the whole picture at once",
    )
    group.add_argument("--stride", type=int, help="pixels between two windows")
    group.add_argument("--short-side", type=int, help="to which pictures are scaled before")
    group.add_argument("--scales", type=float, nargs="+", help="average over these scales")
    group.add_argument("--flip", action="store_true", help="and of the mirrored picture")
    group.add_argument(
        "--reduce-zero-label", action="store_true", help="0 is no class, and 1 the first"
    )
    group = parser.add_argument_group("models that detect objects")
    group.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("SHORT", "LONGEST"),
        help="sides into which pictures are scaled (default: those of the run or the model)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
