"""A new head fitted to the features of the source, before anything is trained.

From there the other weights move little, which keeps what they know (Kumar et al. 2022,
arXiv:2202.10054: a linear probe first, then fine-tuning).
"""

import warnings

import keras
import numpy as np

from .. import data
from ..augment.transform import evaluation_transform
from ..data.examples import Split
from ..lora import HEADS

MOST = 10_000  # images whose features are computed
BATCH = 64
REGULARISATION = 1.0  # scikit-learn's C, for features with a mean square of one


def fit_head(recipe, model, splits):
    """Fits the heads of a model to the training images, as they are in evaluation.

    Args:
        recipe: `Recipe`.
        model: compiled model with heads of the data's classes.
        splits: `Splits`.
    """
    train = _some(splits.train, recipe.train.seed)
    transform = evaluation_transform(recipe.data, model.input.shape[1:])
    heads = [layer for layer in model.layers if layer.name in HEADS]
    features = keras.Model(model.input, [head.input for head in heads])
    num_classes = model.output.shape[-1]
    shown = data.evaluation_dataset(train, BATCH, data.classified(transform, num_classes))
    found = features.predict(shown.map(lambda images, labels: images), verbose=0)
    for head, x in zip(heads, found if len(heads) > 1 else [found], strict=True):
        kernel, bias = logistic_regression(_array(x), train.labels, num_classes)
        head.dense.kernel.assign(kernel)
        head.dense.bias.assign(bias)
        right = np.mean((_array(x) @ kernel + bias).argmax(-1) == train.labels)
        print(
            f"{head.name}: fitted to {len(train.labels):,} images, {100 * right:.1f} % of which it "
            "gets right",
            flush=True,
        )


def logistic_regression(features, labels, num_classes):
    """A linear map to logits, by penalised maximum likelihood.

    Args:
        features: float array (N, D).
        labels: integer array (N,), of two classes or more.
        num_classes: int, K. Classes without examples get no weights and a low bias.

    Returns:
        float32 arrays (D, K), (K,).
    """
    from sklearn.linear_model import LogisticRegression

    scale = np.sqrt(np.mean(features**2)) or 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that more iterations would bring it nearer
        found = LogisticRegression(C=REGULARISATION, max_iter=200).fit(features / scale, labels)
    weights, biases = found.coef_ / scale, found.intercept_
    if len(found.classes_) == 2:  # scikit-learn has one row for both
        weights, biases = np.concatenate([-weights, weights]) / 2, np.array([-1, 1]) * biases / 2
    kernel = np.zeros((features.shape[-1], num_classes), "float32")
    bias = np.full(num_classes, biases.min() - np.log(len(labels)), "float32")
    kernel[:, found.classes_], bias[found.classes_] = weights.T, biases
    return kernel, bias


def _some(split, seed):
    """At most `MOST` examples of a split, drawn from the seed, in their order."""
    if len(split.labels) <= MOST:
        return split
    drawn = np.random.default_rng(seed).permutation(len(split.labels))[:MOST]
    drawn.sort()
    return Split(split.images[drawn], split.labels[drawn])


def _array(x):
    return np.asarray(x, "float32")
