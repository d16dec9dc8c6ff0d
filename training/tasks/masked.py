"""Masked pre-training: the pixels of removed patches, without labels.

Sources are those of classification; their labels hold out the same share of every class, and judge
the features at the end, but nothing learns from them.

Letters: N images, H x W image size, C channels, D width of the encoder.
"""

from dataclasses import asdict, dataclass

import keras
import numpy as np

import keras_vit
from keras_vit.tasks.reconstruction import ReconstructsImages

from .. import data
from ..augment.transform import evaluation_transform, training_transform
from ..recipe.model_schema import AUTO
from ..recipe.schema import JIT_COMPILE, ModelTable, require
from .sourced import rebuilt, with_settings
from .task import Task, Tested

SHOWN = 8  # reconstructions in the report
# Arguments of [model] on which no weight of a source depends.
FREE = ("mask_ratio", "mask_unit", "normalize_pixels", "seed", "frozen_layers")
MOST, NEIGHBOURS, BATCH = 5000, 20, 128  # images of each split whose features are compared


def load(table, num_classes, examples=None):
    """`Splits` of a source for classification, whatever the number of its classes."""
    return data.load(table, AUTO, examples)


def build(recipe, class_names):
    """The model of a recipe, on pixels 0..255.

    `finetune.source` gives a whole model of the task, which is trained on, or an encoder; without
    it an encoder is built from model.encoder, the name of a variant or a table of one with its
    arguments.
    """
    arguments, source = dict(recipe.model.arguments), recipe.finetune.source
    encoder = arguments.pop("encoder", None)
    settings = {"include_preprocessing": True, "dtype": recipe.train.precision}
    size = {key: arguments.pop(key) for key in ("image_size",) if key in arguments}
    if source:
        require(encoder is None, "model.encoder", "left out beside finetune.source", encoder)
        encoder = _from_source(recipe, size, settings)
        if isinstance(encoder, ReconstructsImages):
            given = arguments | size
            return with_settings(encoder, given, FREE, settings["dtype"], "encoder")
    elif isinstance(encoder, dict):
        found = dict(encoder)
        table = ModelTable(found.pop("variant"), found)
        encoder = table.factory(**{"num_classes": None, **found, **size, **settings})
    elif recipe.model.family is keras_vit.MAE:  # a name, or the variant's own
        more = {} if encoder is None else {"encoder": encoder}
        return recipe.model.factory(**more, **arguments, **size, **settings)
    else:
        require(isinstance(encoder, str), "model.encoder", "a variant or a table of one", encoder)
        encoder = ModelTable(encoder).factory(num_classes=None, **size, **settings)
    return recipe.model.factory(encoder=encoder, dtype=recipe.train.precision, **arguments)


def _from_source(recipe, size, settings):
    """The model of finetune.source, a whole one of the task or an encoder, on pixels 0..255."""
    source, like = recipe.finetune.source, recipe.finetune.like or None
    found = None
    if source.endswith(".keras"):  # the arguments of a whole model there are its own
        found = keras_vit.from_pretrained(source, like=like)
        whole = isinstance(found, ReconstructsImages)
        if whole and found.dtype_policy.name != settings["dtype"]:
            found = rebuilt(found, {}, settings["dtype"], "encoder")
    if not isinstance(found, ReconstructsImages):
        found = keras_vit.from_pretrained(source, like=like, **size, **settings)
    if isinstance(found, ReconstructsImages):
        expected = f"that of finetune.source, a {type(found).__name__}"
        same = isinstance(found, recipe.model.family)
        require(same, "model.variant", expected, recipe.model.variant)
        pixels = "a model with include_preprocessing=True"
        require(found.takes_pixels, "finetune.source", pixels, source)
    return found


def compile_model(model, optimizer, recipe, splits):
    """Compiles a model with its own loss and the variance that it explains."""
    jit_compile = JIT_COMPILE[recipe.train.jit_compile]
    model.compile(optimizer, metrics=["explained"], jit_compile=jit_compile)


def training(recipe, model):
    """The example function of training: augmented images, and labels that nothing reads."""
    return _unlabelled(training_transform(recipe.augment, recipe.data, model.input.shape[1:]))


def validation(split, recipe, model):
    """The split itself, and its example function."""
    return split, _unlabelled(evaluation_transform(recipe.data, model.input.shape[1:]))


def _unlabelled(transform):
    def example(picture, label, *seed):
        return transform(picture, *seed), label

    return example


def test(job):
    """Measures the test images, judges the features and draws reconstructions: `Tested`."""
    model, split, folder = job.model, job.splits.test, job.folder
    transform = evaluation_transform(job.recipe.data, model.input.shape[1:])
    found = measured(model, split, transform)
    result = {f"test_{key}": value for key, value in asdict(found).items()}
    result["test_knn"] = neighbours(model.encoder, job.splits.train, split, transform)
    images = data.pictures(split, transform)[: max(SHOWN, 32)].astype("float32")
    figure = keras_vit.plot_reconstruction(model, images[:SHOWN])
    figure.savefig(folder.predictions, bbox_inches="tight", pad_inches=0.05)
    return Tested(
        result,
        f"{100 * result['test_explained']:.1f} % of the variance of removed pixels explained",
        rows_of(result),
        [f"![what the encoder saw and what was predicted]({folder.predictions.name})"],
        images[:32],
        heading="Reconstructions",
    )


@dataclass(frozen=True)
class Reconstructed:
    """What a masked autoencoder reaches on some images, with the masks of inference.

    Attributes:
        images: int, N.
        loss: float, the model's own, over removed pixels.
        explained: float, the share of the variance of removed pixels that is explained.
    """

    images: int
    loss: float
    explained: float

    def __str__(self):
        return (
            f"{100 * self.explained:.2f} % of the variance of removed pixels explained, loss "
            f"{self.loss:.4f}, on {self.images:,} images"
        )


def measured(model, split, transform):
    """`Reconstructed` of a model on a split."""
    totals, count = {}, 0
    for images, _ in data.evaluation_dataset(split, BATCH, _unlabelled(transform)):
        images = images.numpy()
        outputs = model.predict_on_batch(images)
        found = {
            "loss": model.reconstruction_loss(images, outputs),
            "explained": model.explained(images, outputs),
        }
        for key, value in found.items():
            value = float(keras.ops.convert_to_numpy(value))
            totals[key] = totals.get(key, 0.0) + value * len(images)
        count += len(images)
    return Reconstructed(count, **{key: total / count for key, total in totals.items()})


def neighbours(encoder, train, test, transform):
    """Share of test images whose class is that of most of the nearest training images.

    The features are the mean of the patches (`encoder`'s own pooling where it pools), compared by
    the cosine, without any training.
    """
    splits = [_some(split) for split in (train, test)]
    model = keras.Model(encoder.input, encoder.get_layer("pool").input)
    features = [_features(model, encoder, split, transform) for split in splits]
    mean = features[0].mean(axis=0)
    one, other = (_directions(x - mean) for x in features)
    count = min(NEIGHBOURS, len(one))
    nearest = np.argpartition(-other @ one.T, count - 1, axis=1)[:, :count]
    classes = 1 + max(int(split.labels.max()) for split in splits)
    votes = np.eye(classes)[splits[0].labels[nearest]].sum(axis=1)
    return float(np.mean(votes.argmax(axis=1) == splits[1].labels))


def _features(model, encoder, split, transform):
    """float32 (N, D): the mean over the patches of what the pooling reads."""
    found = []
    for images, _ in data.evaluation_dataset(split, BATCH, _unlabelled(transform)):
        x = np.asarray(
            keras.ops.convert_to_numpy(model.predict_on_batch(images.numpy())), "float32"
        )
        x = x[:, encoder.num_prefix_tokens :] if x.ndim == 3 else x.reshape(len(x), -1, x.shape[-1])
        found.append(x.mean(axis=1))
    return np.concatenate(found)


def _directions(x):
    """Rows of length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def _some(split):
    """At most `MOST` examples of a split, evenly spaced."""
    if len(split.labels) <= MOST:
        return split
    chosen = np.linspace(0, len(split.labels) - 1, MOST).astype(int)
    return type(split)(split.images[chosen], split.labels[chosen])


def rows_of(result):
    """The table of the results."""
    return [
        ("variance of removed pixels explained", f"{100 * result['test_explained']:.2f} %"),
        ("loss", f"{result['test_loss']:.4f}"),
        (
            f"classes of the {NEIGHBOURS} nearest training images, by frozen features",
            f"{100 * result['test_knn']:.2f} % right",
        ),
    ]


def summary(result):
    """A sentence on a result."""
    return (
        f"{100 * result['test_explained']:.1f} % of the variance of removed pixels explained, loss "
        f"{result['test_loss']:.4f}, on {result['test_images']} images after {result['epochs']} "
        "epochs"
    )


TASK = Task(
    metric="explained",
    title="explained variance",
    load=load,
    build=build,
    compile=compile_model,
    training=training,
    mix=lambda recipe: None,
    validation=validation,
    validation_batch=lambda recipe: BATCH,
    blank=lambda model: (np.zeros((1, *model.input.shape[1:])), np.zeros(1, "int32")),
    ignored=lambda labels: labels,  # images that fill up the last batch are few, and count
    fit_head=None,
    test=test,
    summary=summary,
    shipped=lambda model: model.encoder,
)
