"""Small pictures of three classes, as a folder and as TFRecord files, and a recipe for them."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

CLASSES = ["cat", "dog", "owl"]
COUNTS = {"train": 30, "validation": 9}
RECIPE = """
[model]
variant = "VisionTransformer"
num_classes = 3
image_size = 16
patch_size = 8
width = 16
depth = 1
num_heads = 2
mlp_dim = 16

[data]
source = "{source}"
max_corrupt = 5
validation = 0.3

[augment]
crop_scale = [0.3, 1.0]
flip = true
randaugment = [1, 5]
erasing = 0.2
mixup = 0.2
cutmix = 1.0
repeats = 2

[optimizer]
learning_rate = 1e-3

[train]
epochs = 2
batch_size = 8
"""


def picture(split, index):
    """(bytes, label) of a picture; every third is a PNG, and sizes differ."""
    rng = np.random.default_rng([index, len(split)])
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    file = io.BytesIO()
    small.resize((20 + index % 3, 24)).save(file, "PNG" if index % 3 == 0 else "JPEG")
    return file.getvalue(), index % len(CLASSES)


def write_folder(path):
    for split, count in COUNTS.items():
        for index in range(count):
            contents, label = picture(split, index)
            suffix = "png" if index % 3 == 0 else "JPEG"
            file = path / split / CLASSES[label] / f"{index:03}.{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(contents)
    return f"folder:{path}"


def write_records(path, first_label=0):
    path.mkdir()
    for split, count in COUNTS.items():
        for shard in range(2):
            name = str(path / f"{split}-{shard:05}-of-00002")
            with tf.io.TFRecordWriter(name) as writer:
                for index in range(shard, count, 2):
                    contents, label = picture(split, index)
                    writer.write(example(contents, label + first_label))
    return f"tfrecord:{path}/*"


def example(contents, label):
    feature = {
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[contents])),
        "image/filename": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a name"])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
