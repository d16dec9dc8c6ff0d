"""On real photos: what a trained model attends to matters for what it says."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import once, to_numpy

DATA = Path(__file__).parents[3] / "shared" / "data" / "vit_tiny_imagenet"

# What trained weights attend to is no matter of the backend.
pytestmark = [once, pytest.mark.skipif(not DATA.is_dir(), reason=f"no weights in {DATA}")]

METHODS = {
    "last block": lambda model, images: last_block(model, images),
    "rollout": keras_vit.attention_rollout,
    "attribution": keras_vit.attention_attribution,
    "Grad-CAM": keras_vit.grad_cam,
}


def last_block(model, images):
    """The class token's row in the last block, mean over the heads: (B, h, w)."""
    maps = keras_vit.attention_maps(model, images, ["block11"], grid=True)["block11"]
    return maps[:, :, 0].mean(axis=1)


@pytest.fixture(scope="module")
def model():
    return keras_vit.from_pretrained(DATA / "model.safetensors")


@pytest.fixture(scope="module")
def images():
    return (np.load(DATA / "reference.npz")["images"].astype("float32") / 255 - 0.5) / 0.5


@pytest.fixture(scope="module")
def maps(model, images):
    return {name: method(model, images) for name, method in METHODS.items()}


def probabilities(model, images):
    return to_numpy(keras.ops.softmax(model.predict(images, verbose=0)))


def blanked(images, order, share):
    """The first `share` of 14 x 14 patches, in the order (B, 196), made grey."""
    patches = images.reshape(-1, 14, 16, 14, 16, 3).copy()
    for patch, places in zip(patches, order, strict=True):
        rows, columns = np.divmod(places[: round(share * 196)], 14)
        patch[rows, :, columns] = 0
    return patches.reshape(images.shape)


def test_blanking_what_is_attended_to_costs_more_than_blanking_at_random(model, images, maps):
    shares = probabilities(model, images)
    best = shares.argmax(axis=1)

    def left(order, share):
        after = probabilities(model, blanked(images, order, share))
        return after[range(25), best].mean()

    rng = np.random.default_rng(0)
    chance = np.array([rng.permutation(196) for _ in images])
    orders = {name: np.argsort(-x.reshape(25, 196), axis=1) for name, x in maps.items()}
    print(f"\nprobability of the predicted class, mean of 25: {shares[range(25), best].mean():.3f}")
    for share in (0.2, 0.5):
        random = left(chance, share)
        after = {name: left(order, share) for name, order in orders.items()}
        print(f"{share:.0%} blanked: at random {random:.3f},", after)
        assert all(x < random - 0.05 for x in after.values())
        assert after["attribution"] < after["rollout"] < random
    least = left(orders["attribution"][:, ::-1], 0.5)
    print(f"50% least attributed blanked: {least:.3f}")
    assert least > random


def test_a_randomised_model_loses_the_structure(images, maps):
    """As Adebayo et al. 2018 (arXiv:1810.03292) ask of anything that explains a model."""
    keras.utils.set_random_seed(0)
    random = keras_vit.ViTTiny()
    for name, method in METHODS.items():
        real, other = (x.reshape(8, -1) for x in (maps[name][:8], method(random, images[:8])))
        correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(real, other, strict=True)]
        entropies = [entropy(x) for x in (real, other)]
        print(f"\n{name}: correlation {np.nanmean(correlation):.3f}, entropy {entropies}")
        assert abs(np.nanmean(correlation)) < 0.3
        if name in ("last block", "attribution"):
            assert entropies[1] > 0.95 > entropies[0]


def entropy(maps):
    """Mean entropy of maps (B, N) as distributions, as a share of that of the uniform one."""
    p = maps / maps.sum(axis=1, keepdims=True)
    return float(-(p * np.log(p + 1e-12)).sum(axis=1).mean() / np.log(p.shape[1]))


def test_maps_of_two_classes_differ(model, images, maps):
    """What speaks for the predicted class hurts it more than what speaks for another one."""
    images = images[:10]
    shares = probabilities(model, images)
    ranked = np.argsort(-shares, axis=1)
    best, other = ranked[:, 0], ranked[:, 1]
    left = {}
    second = keras_vit.attention_attribution(model, images, other)
    for name, x in (("its own", maps["attribution"][:10]), ("the second's", second)):
        order = np.argsort(-x.reshape(10, 196), axis=1)
        after = probabilities(model, blanked(images, order, 0.2))
        left[name] = after[range(10), best] / (after[range(10), best] + after[range(10), other])
    print("\nshare of the first of two classes:", {k: v.mean() for k, v in left.items()})
    assert left["its own"].mean() < left["the second's"].mean()
