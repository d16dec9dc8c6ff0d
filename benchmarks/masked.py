"""What masked pre-training without labels gives a small encoder, on CIFAR-10 or a part of it.

    OMP_NUM_THREADS=1 python -m benchmarks.masked CIFAR10.npz

CIFAR10.npz holds x_train, y_train, x_test and y_test as keras.datasets.cifar10 has them. An MAE is
pre-trained on all training pictures; its encoder has the size of the recipe `cifar10_small`. Four
numbers are then measured on the test pictures, each beside that of another encoder:

- "probe": logistic regression on frozen features (the mean of the patches after the last
  normalisation), learned from all labels; beside the same encoder before pre-training.
- "knn": the vote of the 20 nearest training pictures by the cosine of those features; likewise.
- "finetune": all weights trained with 1,000 labels; beside new weights, trained with the same
  labels for as many steps with the same settings.

Nothing is chosen by the test pictures: every result is that of the last step.
"""

import argparse
import os
import resource
import statistics
from pathlib import Path

import numpy as np

from benchmarks.common import (
    hardware_name,
    load_average,
    print_rows,
    results_path,
    versions,
    write_rows,
)

KEY = ("measure", "seed")
SHOWN = ("measure", "seed", "pretrained", "other", "gain", "cpu_s")
ENCODER = dict(  # recipe cifar10_small
    num_classes=None,
    image_size=32,
    patch_size=4,
    width=96,
    depth=6,
    num_heads=3,
    mlp_dim=192,
)
DECODER = dict(decoder_width=64, decoder_depth=2, decoder_heads=2, mask_ratio=0.75)
PRETRAIN = dict(epochs=100, batch_size=256, rate=2e-3, weight_decay=0.05, beta_2=0.95)
FINETUNE = dict(epochs=60, batch_size=100, rate=1e-3, weight_decay=0.05, beta_2=0.999)
LABELS, NEIGHBOURS, WARMUP = 1000, 20, 0.05
MEAN, STD = np.float32([0.491, 0.482, 0.447]), np.float32([0.247, 0.243, 0.262])


def main():
    arguments = _arguments()
    path = results_path("masked", arguments.out)
    data = load(arguments.cifar10)
    rows = []
    for seed in arguments.seeds:
        for row in measure(seed, data, arguments):
            rows.append(row)
            write_rows(path, [row], KEY)
            print_rows([row], SHOWN)
    for name in dict.fromkeys(row["measure"] for row in rows):
        found = [row["gain"] for row in rows if row["measure"] == name]
        spread = f", standard deviation {statistics.stdev(found):.2f}" if len(found) > 1 else ""
        print(f"{name}: {statistics.mean(found):+.2f} points, {len(found)} seeds{spread}")


def load(path):
    """(training images, labels, test images, labels); images normalised, float32."""
    with np.load(path) as file:
        arrays = [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    x, y, x_test, y_test = arrays
    return *(normalised(x), y.reshape(-1).astype("int32")), normalised(x_test), y_test.reshape(-1)


def normalised(pixels):
    return (pixels.astype("float32") / 255 - MEAN) / STD


def measure(seed, data, arguments):
    """Yields the rows of one seed."""
    import keras

    import keras_vit

    x, y, x_test, y_test = data

    def row(name, pretrained, other, started):
        return {
            "hardware": hardware_name(),
            "measure": name,
            "seed": seed,
            "pretrained": 100 * pretrained,
            "other": 100 * other,
            "gain": 100 * (pretrained - other),
            "epochs": arguments.epochs,
            "cpu_s": cpu_seconds() - started,
            "load": load_average(),
            "versions": versions("keras", keras.backend.backend()),
        }

    started = cpu_seconds()
    keras.utils.set_random_seed(seed)
    mae = keras_vit.MAE(keras_vit.VisionTransformer(**ENCODER), seed=seed, **DECODER)
    before = [features(mae.encoder, images) for images in (x, x_test)]
    settings = {**PRETRAIN, "epochs": arguments.epochs}
    losses = fit(mae, x, None, seed, **settings)
    print(f"seed {seed}: loss {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} epochs")
    if arguments.keep:
        mae.save(Path(arguments.keep, f"mae_{seed}.keras"))
    after = [features(mae.encoder, images) for images in (x, x_test)]
    for name, judge in (("probe", probe), ("knn", knn)):
        found = [judge(train, y, test, y_test) for train, test in (after, before)]
        yield row(name, *found, started)
        started = cpu_seconds()
    chosen = some(y, LABELS, seed)
    found = []
    for pretrained in (True, False):
        keras.utils.set_random_seed(seed)
        model = classifier(mae.encoder if pretrained else None)
        fit(model, x[chosen], y[chosen], seed, **FINETUNE)
        found.append(np.mean(model.predict(x_test, verbose=0).argmax(-1) == y_test))
    yield row("finetune", *found, started)


def classifier(encoder):
    """A classifier of ten classes as MAE's fine-tuning has it, with new weights or an encoder's."""
    import keras_vit

    model = keras_vit.VisionTransformer(
        **{**ENCODER, "num_classes": 10, "pooling": "gap", "class_token": True, "fc_norm": True}
    )
    if encoder is not None:
        values = {weight.path: weight for weight in encoder.weights}
        for weight in model.weights:
            if weight.path in values:
                weight.assign(values[weight.path])
    return model


def fit(model, x, y, seed, *, epochs, batch_size, rate, weight_decay, beta_2):
    """Trains on shifted and mirrored pictures by AdamW and a cosine; returns the losses."""
    import keras

    from keras_vit.optimizers import LayerwiseAdamW, WarmupSchedule, decays

    steps = epochs * (len(x) // batch_size)
    optimizer = LayerwiseAdamW(
        WarmupSchedule(rate, steps, round(WARMUP * steps)),
        weight_decay,
        shares=[1.0] * len(model.trainable_variables),
        decays=[decays(variable.path) for variable in model.trainable_variables],
        beta_2=beta_2,
        global_clipnorm=1.0,
    )
    if y is None:
        model.compile(optimizer)
    else:
        model.compile(
            optimizer,
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        )
        y = np.eye(10, dtype="float32")[y]
    rng = np.random.default_rng(seed)
    batches = augmented(x, y, batch_size, rng)
    found = model.fit(batches, steps_per_epoch=len(x) // batch_size, epochs=epochs, verbose=0)
    return found.history["loss"]


def augmented(x, y, batch_size, rng):
    """Yields batches without end, of pictures shifted by up to 4 pixels and mirrored by half."""
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(x) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            images = np.empty((batch_size, *x.shape[1:]), "float32")
            places = rng.integers(0, 9, (batch_size, 2))
            mirrored = rng.random(batch_size) < 0.5
            for i, (index, (top, left)) in enumerate(zip(chosen, places, strict=True)):
                image = padded[index, top : top + 32, left : left + 32]
                images[i] = image[:, ::-1] if mirrored[i] else image
            yield (images,) if y is None else (images, y[chosen])


def features(encoder, images):
    """The mean of the patch tokens after the last normalisation, float32 (N, D)."""
    import keras

    model = keras.Model(encoder.input, encoder.get_layer("norm").output)
    found = [
        model.predict_on_batch(images[start : start + 500])[:, 1:].mean(axis=1)
        for start in range(0, len(images), 500)
    ]
    return np.concatenate(found)


def probe(train, y, test, y_test):
    """Accuracy of a logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression

    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    model = LogisticRegression(C=0.1, max_iter=500).fit((train - mean) / deviation, y)
    return model.score((test - mean) / deviation, y_test)


def knn(train, y, test, y_test):
    """Accuracy of the vote of the nearest training pictures, by the cosine of centred features."""
    mean = train.mean(axis=0)
    train, test = (x - mean for x in (train, test))
    train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    nearest = np.argpartition(-test @ train.T, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    votes = np.eye(10)[y[nearest]].sum(axis=1)
    return np.mean(votes.argmax(axis=1) == y_test)


def some(y, count, seed):
    """Indices of `count` examples, as many of each class."""
    rng = np.random.default_rng(seed)
    each = count // 10
    return np.concatenate([rng.permutation(np.flatnonzero(y == c))[:each] for c in range(10)])


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cifar10", help="file with x_train, y_train, x_test, y_test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=PRETRAIN["epochs"], help="of pre-training")
    parser.add_argument("--keep", help="folder for the pre-trained models")
    parser.add_argument("--out", help="file for the figures (default: in benchmarks/results)")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
