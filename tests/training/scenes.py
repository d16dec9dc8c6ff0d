"""Small pictures and masks in every layout of segmentation, and a recipe for them.

A picture is 20 x 24 pixels, with a lighter rectangle for each object of its mask.
"""

import io
import json

import numpy as np
from PIL import Image

H, W, K = 20, 24, 3
RECIPE = """
[task]
kind = "segmentation"

[model]
variant = "SETR"
decoder = "naive"
num_classes = 3
image_size = 16
decoder_width = 8
layers = [0, 1]

[model.encoder]
variant = "VisionTransformer"
patch_size = 8
width = 16
depth = 2
num_heads = 2
mlp_dim = 16
dropout_rate = 0.1

[data]
source = "{source}"
validation = 0.25

[augment]
scale = [0.5, 2.0]
cat_max_ratio = 0.75
flip = true
photometric = true

[optimizer]
name = "sgd"
learning_rate = 0.01

[train]
epochs = 2
batch_size = 4
"""


def mask(index):
    """Labels 0..2 and 255 of a picture, uint8 (H, W)."""
    rng = np.random.default_rng(index)
    labels = np.zeros((H, W), "uint8")
    for label in (1, 2, 255):
        top, left = rng.integers(0, H - 9), rng.integers(0, W - 9)
        labels[top : top + 9, left : left + 9] = label
    return labels


def picture(index):
    """The picture of a mask: uint8 (H, W, 3)."""
    rng = np.random.default_rng(100 + index)
    labels = mask(index)
    shade = np.where(labels < K, 60 * labels.astype(int) + 60, 128)[..., None]
    return (shade + rng.integers(-20, 20, (H, W, 3))).clip(0, 255).astype("uint8")


def save(path, pixels, palette=None):
    """Writes an image file of pixels, with a palette if there is one."""
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_folder(path, counts=(("train", 12), ("test", 4))):
    """PATH/images/SPLIT and PATH/masks/SPLIT; every other mask has a palette."""
    index = 0
    for split, count in counts:
        for _ in range(count):
            save(path / "images" / split / f"{index:03}.png", picture(index))
            palette = bytes(range(256)) * 3 if index % 2 else None
            save(path / "masks" / split / f"{index:03}.png", mask(index), palette)
            index += 1
    return f"folder:{path}"


def write_coco(path):
    """Two pictures: polygons, a hole by another object, run lengths, packed and not."""
    objects = [
        {
            "image_id": 1,
            "category_id": 7,
            "area": 64,
            "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10]],
        },
        {"image_id": 1, "category_id": 3, "area": 4, "segmentation": [[4, 4, 6, 4, 6, 6, 4, 6]]},
        # Column by column: of a picture of 3 x 2, the second and third pixel.
        {"image_id": 2, "category_id": 3, "area": 2, "segmentation": {"counts": [1, 2, 3]}},
    ]
    images = [
        {"id": 1, "file_name": "a.png", "height": 12, "width": 16},
        {"id": 2, "file_name": "b.png", "height": 3, "width": 2},
    ]
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    for split in ("train", "val"):
        for image in images:
            save(
                path / split / image["file_name"],
                np.zeros((image["height"], image["width"], 3), "uint8"),
            )
        file = path / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        found = {"images": images, "annotations": objects, "categories": categories}
        file.write_text(json.dumps(found))
    return f"coco:{path}"
