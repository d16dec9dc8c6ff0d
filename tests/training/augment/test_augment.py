import math

import numpy as np
import pytest

from tests.helpers import backends
from training.augment.mixing import cutmix, mixing, mixup
from training.augment.motion import augmentation, warp

# tf.data does all of this whatever the backend is.
pytestmark = backends("tensorflow")

STRONG = {"rotate": 30.0, "translate": 0.2, "zoom": 0.3, "flip": True}
NOTHING = {"angle": 0.0, "shift_x": 0.0, "shift_y": 0.0, "scale": 1.0, "mirror": 1.0}


@pytest.fixture
def image(rng):
    return rng.uniform(0, 255, (8, 6, 3)).astype("float32")


def test_no_strength_is_the_identity(image):
    augment = augmentation(rotate=0.0, translate=0.0, zoom=0.0, flip=False)
    np.testing.assert_array_equal(augment(image, (0, 1)), image)
    np.testing.assert_allclose(warp(image, **NOTHING), image, atol=1e-3)


def test_the_seed_decides(image):
    augment = augmentation(**STRONG)
    np.testing.assert_array_equal(augment(image, (0, 1)), augment(image, (0, 1)))
    assert np.abs(augment(image, (0, 1)) - augment(image, (0, 2))).max() > 1
    assert augment(image, (0, 1)).shape == image.shape


@pytest.mark.parametrize(
    ("motion", "expected"),
    [
        ({"mirror": -1.0}, lambda x: x[:, ::-1]),
        ({"angle": math.pi / 2}, np.rot90),  # counter-clockwise
        ({"angle": math.pi}, lambda x: x[::-1, ::-1]),
        ({"shift_x": 2 / 8}, lambda x: np.pad(x, ((0, 0), (2, 0), (0, 0)))[:, :8]),
        ({"shift_y": -1 / 8}, lambda x: np.pad(x, ((0, 1), (0, 0), (0, 0)))[1:]),
    ],
)
def test_each_motion_means_what_it_says(rng, motion, expected):
    image = rng.uniform(0, 255, (8, 8, 1)).astype("float32")
    np.testing.assert_allclose(warp(image, **(NOTHING | motion)), expected(image), atol=0.05)


def test_zoom_makes_larger():
    image = np.zeros((9, 9, 1), "float32")
    image[3:6, 3:6] = 1.0
    larger = warp(image, **(NOTHING | {"scale": 2.0}))
    smaller = warp(image, **(NOTHING | {"scale": 0.5}))
    assert np.sum(smaller) < np.sum(image) < np.sum(larger)


def test_the_center_stays_and_strengths_are_bounds():
    image = np.zeros((9, 9, 1), "float32")
    image[4, 4] = 1.0
    turned = augmentation(rotate=180.0, translate=0.0, zoom=0.5, flip=True)
    for key in range(20):
        assert turned(image, (0, key))[4, 4, 0] > 0.99
    shifted = augmentation(rotate=0.0, translate=0.12, zoom=0.0, flip=False)  # 1.08 pixels
    for key in range(20):
        assert np.sum(shifted(image, (0, key))[2:7, 2:7]) > 0.99


def test_flip_takes_half(rng):
    image = rng.uniform(0, 255, (4, 4, 1)).astype("float32")
    augment = augmentation(rotate=0.0, translate=0.0, zoom=0.0, flip=True)
    flipped = [not np.allclose(augment(image, (0, key)), image, atol=1e-2) for key in range(200)]
    assert 70 < sum(flipped) < 130


def test_probability_is_the_share_that_changes(image):
    augment = augmentation(**STRONG, probability=0.25)
    changed = [bool(np.any(augment(image, (0, key)) != image)) for key in range(400)]
    assert 70 < sum(changed) < 130
    never = augmentation(**STRONG, probability=0.0)
    assert all(np.array_equal(never(image, (0, key)), image) for key in range(50))


def test_mixup_blends_images_and_labels_by_the_same_shares():
    size = 1000
    labels = np.eye(size, dtype="float32")
    images = np.arange(size, dtype="float32")[:, None, None, None]
    blended, soft = map(np.asarray, mixup(images, labels, seed=(0, 1), alpha=0.3))
    np.testing.assert_allclose(np.sum(soft, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(soft @ np.arange(size), np.ravel(blended), rtol=1e-5)
    share = 1 - np.diag(soft)  # of the opposite example
    np.testing.assert_allclose(np.diag(soft[:, ::-1]), share, atol=1e-6)
    assert share.min() >= 0 and share.max() <= 0.5
    # E[min(x, 1 - x)] of Beta(0.3, 0.3), by numerical integration
    assert abs(share.mean() - 0.134) < 0.025
    np.testing.assert_array_equal(mixup(images, labels, (0, 1), 0.3)[1], soft)
    assert np.abs(mixup(images, labels, (0, 2), 0.3)[1] - soft).max() > 0.1


def example_numbers(size, height=12, width=10):
    """Images whose every pixel is the example's number, and labels that name it."""
    images = np.zeros((size, height, width, 1), "float32") + np.arange(size)[:, None, None, None]
    return images.astype("float32"), np.eye(size, dtype="float32")


def test_cutmix_puts_one_box_and_the_labels_share_is_its_area():
    size = 500
    images, labels = example_numbers(size)
    cut, soft = map(np.asarray, cutmix(images, labels, seed=(0, 1), alpha=1.0))
    numbers = np.arange(size)
    foreign = cut[..., 0] == (size - 1 - numbers)[:, None, None]
    assert np.all(foreign | (cut[..., 0] == numbers[:, None, None]))
    area = foreign.mean(axis=(1, 2))
    np.testing.assert_allclose(soft[numbers, size - 1 - numbers], area, atol=1e-6)
    np.testing.assert_allclose(soft[numbers, numbers], 1 - area, atol=1e-6)
    for mask in foreign[area > 0]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    # Boxes of alpha 1 have a uniform share; a quarter to a half is lost beyond the edges.
    assert 0.22 < area.mean() < 0.42 and area.min() < 0.02 and area.max() > 0.8
    assert foreign[:, 0, 0].mean() > 0.05 and foreign[:, -1, -1].mean() > 0.05
    np.testing.assert_array_equal(cutmix(images, labels, (0, 1), 1.0)[0], cut)
    assert np.any(np.asarray(cutmix(images, labels, (0, 2), 1.0)[0]) != cut)


def test_boxes_have_the_proportions_and_the_size_that_alpha_says():
    images, labels = example_numbers(500, 40, 60)
    cut, _ = cutmix(images, labels, seed=(0, 1), alpha=1000.0)  # half of the area, always
    foreign = np.asarray(cut)[..., 0] != images[..., 0]
    heights, widths = foreign.any(2).sum(1), foreign.any(1).sum(1)
    assert heights.max() in (28, 29, 30) and widths.max() in (42, 43, 44)


def test_mixing_draws_one_of_the_two_for_a_batch():
    images, labels = example_numbers(40)

    def kind(seed, mix):
        mixed = np.asarray(mix(images, labels, seed)[0])
        return "cutmix" if np.all(mixed == np.round(mixed)) else "mixup"

    both = mixing(0.4, 1.0)
    kinds = [kind((0, key), both) for key in range(100)]
    assert 30 < kinds.count("mixup") < 70
    assert {kind((0, key), mixing(0.4, 0.0)) for key in range(20)} == {"mixup"}
    assert {kind((0, key), mixing(0.0, 1.0)) for key in range(20)} == {"cutmix"}
    assert mixing(0.0, 0.0)(images, labels, (0, 1))[0] is images
    for seed in ((0, 1), (0, 2), (0, 3)):
        np.testing.assert_array_equal(both(images, labels, seed)[1], both(images, labels, seed)[1])
        np.testing.assert_allclose(np.sum(both(images, labels, seed)[1], axis=1), 1, atol=1e-6)
