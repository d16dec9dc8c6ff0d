"""A new decoder trained on the features of a frozen encoder, which are computed once.

The sibling of `training.tasks.head` for segmentation: from there training goes on as the recipe
says. With `finetune.train = "head"` the encoder stays as it is.

Letters: N windows, h x w size of the model's images, D width of the encoder, K classes.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_vit.losses import SegmentationCrossEntropy
from keras_vit.metrics import MeanIoU

from ..augment.segmentation import evaluation_example, padding, tiles
from ..data.examples import Split
from ..data.pipeline import evaluation_dataset

BYTES = 2**30  # of features, most
BATCH = 16
STEPS, EPOCHS = 400, 40  # as many steps, but no more epochs
RATE = 3e-3
STRIDE = 4  # of 4 x 4 pixels one is learned from: its neighbours say nearly the same


def fit_decoder(recipe, model, splits):
    """Trains the decoder of a model on the windows that show every training pixel once.

    Args:
        recipe: `Recipe`.
        model: compiled SETR.
        splits: `Splits`.
    """
    shape = model.input.shape[1:]
    stride = min(max(min(shape[:2]) // 64, 1), STRIDE)
    rows, columns = (range(stride // 2, side, stride) for side in shape[:2])
    height, width = len(rows), len(columns)
    features, decoder = parts(model, (height, width))
    shown = tiles(splits.train, recipe.data, shape)
    per_window = sum(4 * int(np.prod(x.shape[1:])) for x in features.outputs)
    shown = _some(shown, max(BYTES // per_window, BATCH), recipe.train.seed)
    example = evaluation_example(recipe.data, shape, padding(model))
    batches = evaluation_dataset(shown, BATCH, example)
    found, labels = [], []
    for images, target in batches.as_numpy_iterator():
        found.append([np.asarray(x) for x in _list(features.predict_on_batch(images))])
        labels.append(target[:, rows][:, :, columns].astype("uint8"))
    found, labels = [np.concatenate(x) for x in zip(*found, strict=True)], np.concatenate(labels)
    size = len(labels)
    epochs = min(max(STEPS * BATCH // size, 1), EPOCHS)
    blank = tf.zeros((height, width, shape[-1]), tf.float32)  # only its size is read

    def batch(features, labels):
        return (*features, blank), tf.cast(labels, tf.int32)

    data = tf.data.Dataset.from_tensor_slices((tuple(found), labels))
    data = data.shuffle(size, seed=recipe.train.seed).map(batch)
    data = data.batch(min(BATCH, size), drop_remainder=True)
    steps = epochs * (size // min(BATCH, size))
    decoder.compile(
        keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(RATE, steps)),
        SegmentationCrossEntropy(average=recipe.train.average),
        metrics=[MeanIoU(model.output.shape[-1])],
    )
    history = decoder.fit(data, epochs=epochs, shuffle=False, verbose=0).history
    print(
        f"decoder: fitted to the features of {size:,} windows in {steps:,} steps, mean IoU "
        f"{100 * history['mean_iou'][-1]:.1f} % of them",
        flush=True,
    )


def parts(model, size=None):
    """Cuts a SETR in two that share its layers.

    Args:
        model: SETR.
        size: (h, w) of the logits; by default that of the model's images.

    Returns:
        (model from images to the maps that the decoder reads, model from these maps and images
        (h, w, C), of which only the size is read, to logits (h, w, K)).
    """
    images = keras.Input((*(size or model.input.shape[1:3]), model.input.shape[-1]))
    names = [layer.name for layer in model.layers]
    first = model.get_layer("neck" if "neck" in names else "decoder")
    maps = _list(first.input)
    logits = model.get_layer("logits")(model.get_layer("decoder").output, images)
    return keras.Model(model.input, maps), keras.Model((*maps, images), logits)


def _some(split, most, seed):
    """At most `most` examples of a split, drawn from the seed, in their order."""
    size = len(split.labels)
    if size <= most:
        return split
    drawn = np.sort(np.random.default_rng(seed).permutation(size)[:most])
    return Split(split.images[drawn], split.labels[drawn])


def _list(x):
    return list(x) if isinstance(x, (list, tuple)) else [x]
