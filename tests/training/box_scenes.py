"""Small pictures with boxes in every layout of detection, and a recipe for them.

A picture has lighter rectangles, the objects, on a dark ground; the class is the colour.
"""

import json

import numpy as np
import tensorflow as tf

from tests.training.scenes import png, save

CLASSES = ["cat", "dog", "owl"]
IDS = [3, 7, 90]  # of the categories: with gaps
RECIPE = """
[task]
kind = "detection"

[model]
variant = "DETR"
num_classes = 3
num_queries = 4
width = 16
encoder_depth = 1
decoder_depth = 2
num_heads = 2
mlp_dim = 16

[model.backbone]
variant = "ResNet"
depths = [1, 1]
widths = [8, 8]
stem_width = 8
block = "basic"

[data]
source = "{source}"
validation = 0.25
fit_into = [48, 32]

[augment]
flip = true
short_sides = [24, 32]
crop_sides = [16, 24]
crop_short_sides = [24, 28]

[optimizer]
learning_rate = 1e-3
backbone_rate = 0.1
weight_decay = 1e-4
decay_all = true
clip_norm = 0.1
schedule = "step"

[train]
epochs = 2
batch_size = 4
"""


def size(index):
    """(H, W) of a picture; there are three."""
    return [(20, 32), (32, 20), (24, 24)][index % 3]


def objects(index):
    """list of (x, y, width, height, class) of a picture; every fourth has none."""
    rng = np.random.default_rng(index)
    height, width = size(index)
    found = []
    for _ in range(0 if index % 4 == 3 else rng.integers(1, 4)):
        w, h = rng.integers(5, 12, 2)
        x, y = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
        found.append((*map(int, (x, y, w, h)), int(rng.integers(len(CLASSES)))))
    return found


def picture(index):
    """The picture of the objects: uint8 (H, W, 3)."""
    pixels = np.full((*size(index), 3), 40, "uint8")
    for x, y, w, h, label in objects(index):
        pixels[y : y + h, x : x + w] = 120
        pixels[y : y + h, x : x + w, label] = 250
    return pixels


def splits(counts):
    """Yields (split, indices of its pictures)."""
    first = 0
    for name, count in counts:
        yield name, range(first, first + count)
        first += count


COUNTS = (("train", 12), ("val", 4))


def write_coco(path, counts=COUNTS):
    for split, indices in splits(counts):
        images, annotations = [], []
        for index in indices:
            height, width = size(index)
            name = f"{index:03}.png"
            save(path / split / name, picture(index))
            number = 5 * index + 2
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            for x, y, w, h, label in objects(index):
                item = {"image_id": number, "category_id": IDS[label], "bbox": [x, y, w, h]}
                annotations.append(
                    {**item, "id": len(annotations) + 1, "area": w * h, "iscrowd": 0}
                )
        kinds = [{"id": i, "name": name} for i, name in zip(IDS, CLASSES, strict=True)]
        found = {"images": images, "annotations": annotations, "categories": kinds}
        file = path / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found))
    return f"coco:{path}"


def write_yolo(path, counts=COUNTS):
    for split, indices in splits(counts):
        for index in indices:
            save(path / "images" / split / f"{index:03}.png", picture(index))
            height, width = size(index)
            lines = [
                f"{label} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}"
                for x, y, w, h, label in objects(index)
            ]
            file = path / "labels" / split / f"{index:03}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            if lines:  # a picture without objects has no file
                file.write_text("\n".join(lines) + "\n")
    (path / "data.yaml").write_text(f"nc: 3\nnames: [{', '.join(CLASSES)}]\n")
    return f"yolo:{path}"


def write_voc(path, counts=COUNTS):
    for split, indices in splits(counts):
        for index in indices:
            save(path / "JPEGImages" / f"{index:03}.png", picture(index))
            height, width = size(index)
            items = "".join(
                f"<object><name>{CLASSES[label]}</name><difficult>0</difficult><bndbox>"
                f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
                "</bndbox></object>"
                for x, y, w, h, label in objects(index)
            )
            shape = f"<size><width>{width}</width><height>{height}</height></size>"
            file = path / "Annotations" / f"{index:03}.xml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"<annotation>{shape}{items}</annotation>")
        file = path / "ImageSets" / "Main" / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{index:03}\n" for index in indices))
    return f"voc:{path}"


def write_records(path, counts=COUNTS):
    path.mkdir()
    for split, indices in splits(counts):
        with tf.io.TFRecordWriter(str(path / f"{split}-00000-of-00001")) as writer:
            for index in indices:
                writer.write(example(index))
    return f"tfrecord:{path}/*"


def example(index):
    height, width = size(index)
    rows = np.array(objects(index), "float32").reshape(-1, 5)
    x, y, w, h, label = rows.T
    prefix = "image/object"
    sides = {
        f"{prefix}/bbox/xmin": x / width,
        f"{prefix}/bbox/ymin": y / height,
        f"{prefix}/bbox/xmax": (x + w) / width,
        f"{prefix}/bbox/ymax": (y + h) / height,
    }
    feature = {
        k: tf.train.Feature(float_list=tf.train.FloatList(value=v)) for k, v in sides.items()
    }
    numbers = [IDS[int(i)] for i in label]
    names = [CLASSES[int(i)].encode() for i in label]
    feature[f"{prefix}/class/label"] = tf.train.Feature(
        int64_list=tf.train.Int64List(value=numbers)
    )
    feature[f"{prefix}/class/text"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=names))
    contents = png(picture(index))
    feature["image/encoded"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[contents]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
