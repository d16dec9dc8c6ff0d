"""Images a second and core, from JPEG files to augmented batches of 224 x 224 pixels.

    python -m benchmarks.data_speed

The files hold 500 x 375 pixels of smooth noise, quality 90, and are in memory after the first
round. Everybody takes a random resized crop (bilinear), mirrors half and applies two operations of
RandAugment, at a third of its full magnitude or what comes nearest:

- `training.data` by tf.data.
- torchvision and timm by PIL, in a DataLoader without workers that also normalises.
- keras_cv by its layers in tf.data, an image at a time, which is quicker than a batch. Its crops
  are not antialiased.
- Keras by its own layers, an image at a time: a batch is no quicker and shares its operations.
  Without a random resized crop, it makes the short side 256 pixels and takes random 224 of them.

Each has a process of its own on the same core, and they take turns.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.common import (
    Worker,
    command_or_worker,
    hardware_name,
    installed,
    load_average,
    print_rows,
    results_path,
    versions,
    write_rows,
)

KEY = ("library", "work")
PACKAGES = {
    "keras_vit": ("tensorflow", "keras"),
    "torchvision": ("torchvision", "pillow"),
    "timm": ("timm", "torchvision", "pillow"),
    "keras_cv": ("keras-cv", "tensorflow", "keras"),
    "keras": ("tensorflow", "keras"),
}
WORKS = ("randaugment", "crop_flip")
BATCH, SIZE = 32, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main():
    arguments = _arguments()
    path = results_path("data_speed", arguments.out)
    present = [name for name in PACKAGES if name == "keras_vit" or installed(name)]
    print("not installed:", ", ".join(set(PACKAGES) - set(present)) or "none")
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), arguments.images)
        workers = {
            (name, work): Worker(
                "benchmarks.data_speed",
                {"library": name, "work": work, "folder": folder, "core": arguments.core},
            )
            for name in present
            for work in WORKS
        }
        rounds = {key: [] for key in workers}
        for _ in range(arguments.rounds + 1):
            for key, worker in workers.items():
                rounds[key].append(worker.ask(seconds=arguments.seconds))
        rows = [_row(*key, answers[1:]) for key, answers in rounds.items()]  # 1st fills caches
        for worker in workers.values():
            worker.close()
    write_rows(path, rows, KEY)
    print_rows(rows, ("library", "work", "images_per_s", "images_per_cpu_s", "load"))


def write_pictures(folder, count):
    """Writes `count` JPEG files in ten classes below folder/train."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(count):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC))
        noisy = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype("uint8")
        path = folder / "train" / f"{index % 10}" / f"{index:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(path, quality=90)


def start(library, work, folder, core):
    """A worker on one core: asked with `seconds`, it tells images a second and a CPU second."""
    os.sched_setaffinity(0, {core})  # before anything counts the cores
    batches = {
        "keras_vit": _keras_vit,
        "torchvision": _torchvision,
        "timm": _timm,
        "keras_cv": _keras_cv,
        "keras": _keras,
    }[library]
    new_iterator = batches(folder, work == "randaugment")

    def answer(seconds):
        iterator = new_iterator()
        next(iterator)
        images, begin, begin_cpu = 0, time.perf_counter(), time.process_time()
        while (wall := time.perf_counter() - begin) < seconds:
            images += len(next(iterator)[0])
        return {"wall": images / wall, "cpu": images / (time.process_time() - begin_cpu)}

    return answer


def _keras_vit(folder, with_randaugment):
    from training import data, recipe
    from training.augment.transform import training_transform

    chosen = [2, 9] if with_randaugment else []
    tables = {
        "model": {"variant": "VisionTransformer", "num_classes": 10},
        "data": {"source": f"folder:{folder}", "interpolation": "bilinear"},
        "augment": {"crop_scale": [0.08, 1.0], "flip": True, "randaugment": chosen},
        "optimizer": {"learning_rate": 1e-3},
        "train": {"epochs": 10**6, "batch_size": BATCH},
    }
    used = recipe.of_tables(tables)
    split = data.load(used.data, 10).train
    transform = training_transform(used.augment, used.data, (SIZE, SIZE, 3))
    steps = data.steps_per_epoch(split, BATCH)
    dataset = data.train_dataset(
        split, data.Plan(used, steps, range(10**6), data.classified(transform, 10))
    )
    return lambda: iter(dataset)


def _torchvision(folder, with_randaugment):
    from torchvision import transforms

    chosen = [transforms.RandAugment(num_ops=2, magnitude=9)] if with_randaugment else []
    return _loader(
        folder,
        transforms.Compose(
            [
                transforms.RandomResizedCrop(SIZE),
                transforms.RandomHorizontalFlip(),
                *chosen,
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        ),
    )


def _timm(folder, with_randaugment):
    from timm.data import create_transform

    chosen = "rand-m9-n2" if with_randaugment else None
    return _loader(
        folder,
        create_transform(
            SIZE,
            is_training=True,
            auto_augment=chosen,
            color_jitter=None,
            interpolation="bilinear",
            mean=MEAN,
            std=STD,
        ),
    )


def _keras_cv(folder, with_randaugment):
    import keras_cv

    layers = [
        keras_cv.layers.RandomCropAndResize((SIZE, SIZE), (0.08, 1.0), (3 / 4, 4 / 3)),
        keras_cv.layers.RandomFlip("horizontal"),
    ]
    if with_randaugment:
        layers.append(keras_cv.layers.RandAugment((0, 255), 2, 0.3, magnitude_stddev=0.0))
    return _layers(folder, layers)


def _keras(folder, with_randaugment):
    import keras

    layers = [
        keras.layers.Resizing(256, 256, crop_to_aspect_ratio=True),
        keras.layers.RandomCrop(SIZE, SIZE),
        keras.layers.RandomFlip("horizontal"),
    ]
    if with_randaugment:
        layers.append(keras.layers.RandAugment((0, 255), num_ops=2, factor=0.3))
    return _layers(folder, layers)


def _layers(folder, layers):
    import tensorflow as tf

    def example(path):
        image = tf.cast(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), tf.float32)
        for layer in layers:
            image = layer(image)
        return (image,)

    files = sorted(str(path) for path in Path(folder, "train").glob("*/*.jpg"))
    shuffled = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files)).repeat()
    batches = shuffled.map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
    dataset = batches.prefetch(tf.data.AUTOTUNE)
    return lambda: iter(dataset)


def _loader(folder, transform):
    import torch
    from torchvision.datasets import ImageFolder

    torch.set_num_threads(1)
    pictures = ImageFolder(Path(folder, "train"), transform)
    sampler = torch.utils.data.RandomSampler(pictures, replacement=True, num_samples=10**7)
    loader = torch.utils.data.DataLoader(pictures, BATCH, sampler=sampler, num_workers=0)
    return lambda: iter(loader)


def _row(library, work, answers):
    return {
        "hardware": hardware_name(),
        "library": library,
        "work": work,
        "images_per_s": statistics.median(a["wall"] for a in answers),
        "images_per_cpu_s": statistics.median(a["cpu"] for a in answers),
        "rounds": len(answers),
        "load": load_average(),
        "versions": versions(*PACKAGES[library]),
    }


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a library in a round")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--out", help="CSV file, by default results/data_speed_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    command_or_worker(main, start)
