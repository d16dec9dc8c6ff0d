"""Draws the augmentations of a photograph, one by one and combined as in a recipe.

    python -m training.show_augmentations -o docs/augmentations.webp  # the figure in the README
    python -m training.show_augmentations cat.jpg dog.jpg --recipe deit3 -o augmentations.png
    python -m training.show_augmentations my_scenes.toml -o scenes.png  # pictures with their masks
    python -m training.show_augmentations detr_digits -o boxes.png  # and with their boxes

The images are those for a model of 128 x 128 pixels, made by the code that a run uses. Of a recipe
for segmentation or detection its own pictures and masks or boxes are drawn, as its own model sees
them: look at them before a run, because wrong labels are the first cause of failed ones.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from .terminal import fail, packages, quiet

with packages(end=__name__ == "__main__"), quiet():
    import numpy as np
    import tensorflow as tf

    from keras_vit.picture_files import is_picture, load_image
    from keras_vit.terminal import printable

    from . import recipe, tasks
    from .augment import detection
    from .augment.mixing import cutmix, mixing, mixup
    from .augment.pixels import as_bytes
    from .augment.randaugment import LEVELS, OPERATIONS, operation
    from .augment.segmentation import training_example
    from .augment.transform import evaluation_transform, training_transform
    from .data.decoding import decode
    from .data.examples import reader
    from .recipe.derived import number_of_classes
    from .recipe.schema import AugmentTable, DataTable
    from .results import box_figures, overlays

SIZE, COLUMNS = 128, 7
SHAPE, DATA = (SIZE, SIZE, 3), DataTable("folder:of photographs")
RECIPE, RECIPE_SEEDS = "deit3", (0, 1)  # seeds of a batch with MixUp and one with CutMix
PICTURES, DRAWS = 4, 3  # of a recipe for segmentation or detection
INK, MUTED = "#1b1f24", "#57606a"
MARGIN, GAP, HEADING, LABEL = 16, 10, 46, 20  # pixels; HEADING and LABEL are heights


class Row(NamedTuple):
    """A heading and the images below it.

    Attributes:
        keys: tuple of str, the keys of [augment] that it shows.
        title, note: str, the heading and an explanation.
        lines: list of lists of at most COLUMNS pairs: label, image (SIZE, SIZE, 3).
    """

    keys: tuple
    title: str
    note: str
    lines: list


def main():
    """Runs the command; returns its exit code: 0 for success, 2 for a user error."""
    arguments = _arguments()
    try:
        if (plan := _recipe_with_labels(arguments)) is not None:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            number = DRAWN[plan.task.kind](plan, arguments.out)
            print(printable(f"{arguments.out}: {number} training pictures, each in {DRAWS} draws"))
            return 0
        arguments.photos = arguments.photos or sample_photos()
        for photo in arguments.photos:
            load_image(photo)  # raises for a broken file
        photos = [Path(photo).read_bytes() for photo in arguments.photos]
        sheet = draw(rows(*photos, arguments.recipe))
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(arguments.out, quality=70)
    except (ImportError, OSError, ValueError) as error:
        return fail(error, 2)
    print(printable(f"{arguments.out}: {sheet.width} x {sheet.height} pixels"))
    return 0


def sample_photos():
    """Paths of the two photographs in scikit-learn: a temple and a flower."""
    with packages():
        from sklearn.datasets import load_sample_images

    return load_sample_images().filenames


def rows(photo, other, recipe_name=RECIPE):
    """All augmentations of one photograph, and those that mix it with another.

    Args:
        photo, other: bytes of picture files.
        recipe_name: name of a recipe, or path of a .toml file, whose augmentations are combined.

    Returns:
        list of `Row`.
    """
    whole = evaluation_transform(DATA, SHAPE)
    image, second = whole(tf.constant(photo)), whole(tf.constant(other))

    def cells(key, value, seeds):
        """One cell per seed, for a recipe with only `key = value`."""
        change = training_transform(AugmentTable(**{key: value}), DATA, SHAPE)
        return [(f"{key} = {_toml(value)}", change(tf.constant(photo), (0, i))) for i in seeds]

    def operations(names, title):
        """The operations at half magnitude, and below at full magnitude with the opposite sign."""
        lines = [
            [(f"{name}, {level}", operation(name, as_bytes(image), level, sign)) for name in names]
            for level, sign in ((LEVELS // 2, 1.0), (LEVELS, -1.0))
        ]
        note = "randaugment = [2, 9] draws two at 9. Here 15, then 30, places and colours reversed."
        return Row(("randaugment",), title, note, lines)

    def mixed(mix, alpha, seeds):
        for seed in seeds:
            images, labels = mix(tf.stack([image, second]), tf.eye(2), (0, seed), alpha)
            yield f"{mix.__name__}, {_shares(labels[0])}", images[0]

    return [
        Row(
            ("crop_scale", "crop_ratio", "pad_crop"),
            "Crops",
            "Evaluation shows the middle; training a random part, or the image shifted.",
            [
                [
                    ("evaluation", image),
                    *cells("crop_scale", (0.08, 1.0), (0, 1, 4, 5)),
                    *cells("pad_crop", 24, (0, 1)),
                ]
            ],
        ),
        Row(
            ("flip", "rotate", "translate", "zoom"),
            "Motions",
            "Each value is the most: every image draws its own, either way. The outside is black.",
            [
                [
                    *cells("flip", True, (0,)),
                    *cells("rotate", 30.0, (0, 3)),
                    *cells("translate", 0.2, (0, 1)),
                    *cells("zoom", 0.5, (0, 1)),
                ]
            ],
        ),
        operations(OPERATIONS[:COLUMNS], "RandAugment"),
        *(
            operations(OPERATIONS[start : start + COLUMNS], "RandAugment, more of it")
            for start in range(COLUMNS, len(OPERATIONS), COLUMNS)
        ),
        Row(
            ("color_jitter", "erasing"),
            "Colour jitter, erasing",
            "Brightness, contrast, saturation by up to 40 %, in any order; a rectangle of noise.",
            [
                [
                    *(
                        ("color_jitter", changed)
                        for _, changed in cells("color_jitter", (0.4, 0.4, 0.4), (0, 1, 2, 5))
                    ),
                    *cells("erasing", 1.0, (0, 1, 2)),
                ]
            ],
        ),
        Row(
            ("mixup", "cutmix"),
            "MixUp, CutMix",
            "Two images become one, and their labels with the same shares.",
            [
                [
                    ("another image", second),
                    *mixed(mixup, 0.8, (1, 2, 4)),
                    *mixed(cutmix, 1.0, (0, 1, 2)),
                ]
            ],
        ),
        _whole_recipe(recipe_name, photo, other),
    ]


def draw(rows):
    """Draws all rows below each other, with the images in their original size.

    Args:
        rows: list of `Row`.

    Returns:
        `PIL.Image.Image`, RGB.
    """
    width = 2 * MARGIN + COLUMNS * SIZE + (COLUMNS - 1) * GAP
    height = MARGIN + sum(HEADING + len(row.lines) * (SIZE + LABEL + GAP) + GAP for row in rows)
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(19), ImageFont.load_default(13)
    y = MARGIN
    for row in rows:
        pen.text((MARGIN, y), row.title, INK, large)
        pen.text((MARGIN, y + 24), row.note, MUTED, small)
        y += HEADING
        for line in row.lines:
            for place, (label, image) in enumerate(line):
                x = MARGIN + place * (SIZE + GAP)
                sheet.paste(Image.fromarray(as_bytes(image).numpy()), (x, y))
                pen.text((x, y + SIZE + 3), label, INK, small)
            y += SIZE + LABEL + GAP
        y += GAP
    return sheet


def draw_masks(plan, path, pictures=PICTURES):
    """Draws training pictures of a recipe with their masks, whole and as a run sees them.

    Args:
        plan: `Recipe` of task.kind "segmentation".
        path: `Path` of the PNG to write.
        pictures: int, how many; the first ones of the training split.

    Returns:
        int, how many were drawn.
    """
    classes = plan.model.all_arguments()["num_classes"]
    splits = tasks.of(plan).load(plan.data, classes)
    classes = number_of_classes(splits.class_names, *(x.labels for x in splits[:3]))
    size = plan.model.arguments.get("image_size", SIZE)
    window = (size, size) if isinstance(size, int) else tuple(size)
    change = training_example(plan.augment, plan.data, (*window, 3), (127.5,) * 3)
    read, label = reader(splits.train.images), reader(splits.train.labels)
    rows = []
    for index in range(min(pictures, len(splits.train.labels))):
        contents, labels = read(index), label(index)
        picture = decode(contents, 3, upright=plan.data.upright).numpy()
        shown = [picture, overlays.overlay(picture, labels.numpy(), classes)]
        found = [labels.numpy()]
        for draw in range(DRAWS):
            seed = tf.random.fold_in(tf.stack([plan.train.seed, draw]), index)
            image, moved = (x.numpy() for x in change(contents, labels, seed))
            shown.append(overlays.overlay(image, moved, classes))
            found.append(moved)
        present = np.unique(np.concatenate([x.ravel() for x in found]))
        rows.append((Path(splits.train.images.name(index)).name, shown, present))
    headings = ["picture", "labels", *(f"draw {draw + 1}" for draw in range(DRAWS))]
    title = f"{len(rows)} training pictures, whole and as the model sees them"
    overlays.sheet(rows, headings, title, classes, path, splits.class_names)
    return len(rows)


def draw_boxes(plan, path, pictures=PICTURES):
    """Draws training pictures of a recipe with their boxes, whole and as a run sees them.

    Args, Returns: as `draw_masks`, of task.kind "detection".
    """
    splits = tasks.of(plan).load(plan.data, plan.model.all_arguments()["num_classes"])
    images, boxes = splits.train
    change = detection.training_example(plan.augment, plan.data)
    read, label = reader(images), reader(boxes)
    rows = []
    for index in range(min(pictures, len(boxes))):
        contents, (corners, classes, size) = read(index), label(index)
        encoded = contents.dtype == tf.string
        picture = decode(contents, 3, upright=plan.data.upright) if encoded else contents
        shown = [(picture.numpy(), corners.numpy(), classes.numpy(), None)]
        for draw in range(DRAWS):
            seed = tf.random.fold_in(tf.stack([plan.train.seed, draw]), index)
            image, target = change(contents, (corners, classes, size), seed)
            height, width = image.shape[:2]
            x, y, w, h = np.moveaxis(target["boxes"].numpy() * ([width, height] * 2), -1, 0)
            moved = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1)
            shown.append((image.numpy(), moved, target["labels"].numpy(), None))
        name = Path(images.name(index)).name if encoded else f"picture {index + 1}"
        rows.append((name, shown))
    headings = ["picture", *(f"draw {draw + 1}" for draw in range(DRAWS))]
    title = f"{len(rows)} training pictures, whole and as the model sees them"
    classes = number_of_classes(splits.class_names, boxes)
    box_figures.sheet(rows, headings, title, classes, path, splits.class_names)
    return len(rows)


DRAWN = {"segmentation": draw_masks, "detection": draw_boxes}


def _recipe_with_labels(arguments):
    """The `Recipe` that the command names, if its masks or boxes are drawn; None for others."""
    named = arguments.photos[0] if len(arguments.photos) == 1 else arguments.recipe
    plan = recipe.read(recipe.find(named), arguments.set)
    if plan.task.kind not in DRAWN:
        if len(arguments.photos) == 1:
            raise ValueError(
                "One argument is a recipe for segmentation or detection; for others pass two "
                f"photographs, and --recipe. Received: {named} for {plan.task.kind}"
            )
        return None
    return plan


def _whole_recipe(name, photo, other):
    """Two batches of both photographs with all augmentations of a recipe."""
    plan = recipe.read(recipe.find(name))
    change = training_transform(plan.augment, plan.data, SHAPE)
    mix = mixing(plan.augment.mixup, plan.augment.cutmix)
    # Examples are mixed with the opposite one in the batch, which is the other photograph.
    sources = [(photo, other)[i % 2] for i in range(2 * COLUMNS)]
    labels = tf.one_hot([i % 2 for i in range(2 * COLUMNS)], 2)
    lines = []
    for seed in RECIPE_SEEDS:
        images = [change(tf.constant(x), (seed, i)) for i, x in enumerate(sources)]
        images, shares = mix(tf.stack(images), labels, (seed, 0))
        lines.append([(_shares(shares[i]), images[i]) for i in range(COLUMNS)])
    note = "Of two batches seven each, as a run sees them, with the labels' shares."
    return Row((), f"All together: the recipe {name}", note, lines)


def _shares(label):
    return f"{100 * label[0]:.0f} : {100 * label[1]:.0f}"


def _toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(f'{x:g}' for x in value)}]" if isinstance(value, tuple) else f"{value:g}"


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "photos",
        nargs="*",
        help="two picture files, by default scikit-learn's; or a recipe for masks or boxes",
    )
    parser.add_argument("--recipe", default=RECIPE, help="whose [augment] is shown as a whole")
    parser.add_argument("-o", "--out", type=Path, default=Path("augmentations.webp"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change one value"
    )
    arguments = parser.parse_args()
    photos = arguments.photos
    if len(photos) > 2 or len(photos) == 1 and is_picture(photos[0]):
        parser.error(f"expected two photographs. Received: {len(photos)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
