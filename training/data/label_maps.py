"""Maps the labels of other ImageNet test sets to the 1,000 classes of a model."""

import importlib.util
import json
import re
import warnings
from pathlib import Path

import numpy as np

from keras_vit.picture_files import said_of_others

from .examples import Encoded, Split

# Number of the 1,000 classes in a test set. Only these compete, as in the authors' eval.py:
# github.com/hendrycks/natural-adv-examples and github.com/hendrycks/imagenet-r.
SUBSETS = {"imagenet-a": 200, "imagenet-r": 200}
WORDNET = ("imagenet", "imagenet-sketch", *SUBSETS)
NAMES = ("order", "imagenet-v2", *WORDNET, "real:PATH")


def target(name, split, class_names, model):
    """Maps labels to the order of a model's logits.

    Args:
        name: how to map the labels of `split`:

            - "": by name, if `model.class_names` contains the names of the source, else by order.
            - "order": the first class of the source is the first class of the model, and so on.
            - "imagenet-v2": the names of the folders are the numbers of the classes, 0 to 999.
            - "imagenet", "imagenet-sketch": the names of the folders are WordNet ids.
            - "imagenet-a", "imagenet-r": as "imagenet", with 200 of the 1,000 classes; the others
              do not compete.
        split: `Split` whose labels are indices into `class_names`.
        class_names: list of str, or None if they are not known.
        model: `keras.Model` with K logits.

    Returns:
        (`Split` with labels in [0, K), sorted integer array of the classes that compete, or None
        for all).

    Raises:
        ValueError: if the name is unknown, the model does not have a class, or the order of the
            classes is in doubt.
    """
    num_classes = model.output.shape[-1]
    if name and name not in NAMES:
        raise ValueError(f"--labels must be one of {', '.join(NAMES)}. Received: {name!r}")
    if name == "":
        return Split(split.images, _by_name_or_order(split.labels, class_names, model)), None
    if name == "order":
        return split, None
    if class_names is None or num_classes != 1000:
        raise ValueError(
            f"--labels {name} needs a model of 1000 classes and a source whose classes have names, "
            f"such as folder:PATH. Received: {num_classes} classes, "
            f"{'no' if class_names is None else len(class_names)} names"
        )
    v2 = name == "imagenet-v2"
    known = [str(number) for number in range(1000)] if v2 else wordnet_ids()
    labels = _numbers(class_names, known, name)[split.labels]
    if name not in SUBSETS:
        return Split(split.images, labels), None
    classes = np.unique(labels)
    if len(classes) != SUBSETS[name]:
        raise ValueError(
            f"--labels {name} needs images of all {SUBSETS[name]} classes of the test set, or the "
            f"result is not comparable. Received: images of {len(classes)} classes"
        )
    return Split(split.images, labels), classes


def real(images, labels):
    """The validation images of ImageNet with the labels of Beyer et al. 2020 (arXiv:2006.07159).

    Args:
        images: `Path` of a folder with files ILSVRC2012_val_*.JPEG, in subfolders too.
        labels: `Path` of real.json, a list of lists of classes in the order of the images
            (github.com/google-research/reassessed-imagenet).

    Returns:
        `Split` whose labels are lists of the correct classes. Images without a correct class are
        left out.

    Raises:
        ValueError: if the folder has no such files, or `labels` is not such a list.
    """
    try:
        allowed = json.loads(labels.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--labels real:PATH must name real.json, a list of lists: {error}. Received: {labels}"
        ) from error
    found, others = {}, []
    for path in images.rglob("[!.]*"):
        match = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.jpe?g", path.name, flags=re.IGNORECASE)
        if match and path.is_file():
            found[int(match[1])] = path
        elif not path.is_dir():
            others.append(path)
    if others:
        warnings.warn(said_of_others(sorted(others)), stacklevel=2)
    if (
        not found
        or not isinstance(allowed, list)
        or not 0 < min(found) <= max(found) <= len(allowed)
    ):
        raise ValueError(
            "The images must be files ILSVRC2012_val_00000001.JPEG to "
            f"ILSVRC2012_val_{len(allowed):08}.JPEG, the number of lists in {labels}. "
            f"Received: {len(found)} such files in {images}"
        )
    numbers = [number for number in sorted(found) if allowed[number - 1]]
    paths = [found[number] for number in numbers]
    return Split(Encoded.of_files(paths), [allowed[number - 1] for number in numbers])


def wordnet_ids():
    """The WordNet ids of ImageNet's 1,000 classes, in order, from tensorflow-datasets.

    Returns:
        list of str, such as "n01440764".
    """
    package = importlib.util.find_spec("tensorflow_datasets")  # importing it would take seconds
    file = Path(package.submodule_search_locations[0], "datasets", "imagenet2012", "labels.txt")
    return file.read_text(encoding="utf-8").split()


def _numbers(class_names, known, name):
    """Integer array, the index in `known` of each class of the source."""
    place = {class_name: number for number, class_name in enumerate(known)}
    for class_name in class_names:
        if class_name not in place:
            raise ValueError(
                f"--labels {name} needs classes with the names {known[0]} to {known[-1]}. "
                f"Received: {class_name!r}"
            )
    return np.array([place[class_name] for class_name in class_names])


def _by_name_or_order(labels, class_names, model):
    own, num_classes = getattr(model, "class_names", None), model.output.shape[-1]
    if class_names is None:
        return labels
    if own is not None and set(class_names) <= set(own):
        return _numbers(class_names, own, "")[labels]
    doubt, numbers = "", all(name.isdecimal() for name in class_names)
    if len(class_names) != num_classes:
        doubt = f"{len(class_names)} classes and a model of {num_classes}"
    elif numbers and sorted(class_names, key=int) != list(class_names):
        doubt = f"numbers in the order {', '.join(class_names[:4])}, ..."
    if doubt:
        raise ValueError(
            "The model does not have the class names of the source, and their order is in doubt: "
            f"pass --labels ({', '.join(NAMES)}). Received: {doubt}"
        )
    return labels
