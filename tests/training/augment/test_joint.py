"""One draw that moves a picture and its mask."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import once
from tests.training import scenes
from training.augment import joint
from training.augment.photometric import photometric_distortion
from training.augment.segmentation import evaluation_example, tiles, training_example
from training.data.examples import Split, reader
from training.data.masks import LabelMap, Masks
from training.recipe.schema import AugmentTable, DataTable

# tf.data does all of this whatever the backend is.
pytestmark = once

FILL = (10.0, 20.0, 30.0)
DATA = DataTable("folder:of scenes")


def example_of(window=(16, 16), data=DATA, **augment):
    change = tf.function(training_example(AugmentTable(**augment), data, (*window, 3), FILL))
    return lambda picture, labels, seed: change(picture, labels, tf.constant(seed))


def blocks(side=4, size=(8, 10)):
    """Labels (32, 40) in blocks of one class, and a picture in which a pixel says its class."""
    labels = np.random.default_rng(0).integers(0, 5, size).repeat(side, 0).repeat(side, 1)
    return np.repeat(50.0 * labels[..., None], 3, axis=-1).astype("float32"), labels.astype("int32")


def same_place(image, labels):
    """Share of the labelled pixels in whose place the picture shows their class."""
    known = labels != 255
    return (np.abs(image[..., 0] - 50.0 * labels) < 24)[known].mean()


def test_picture_and_mask_move_together():
    """Where they do not, by a pixel or a mirror, fewer pixels agree."""
    picture, labels = blocks(8)
    change = example_of((24, 24), scale=(0.5, 2.0), flip=True)
    seen = set()
    for seed in range(20):
        image, moved = (x.numpy() for x in change(picture, labels, (seed, 1)))
        assert image.shape == (24, 24, 3) and moved.shape == (24, 24)
        assert same_place(image, moved) > 0.7
        assert same_place(np.roll(image, 2, axis=1), moved) < same_place(image, moved)
        assert set(np.unique(moved)) <= {*range(5), 255}  # nothing between two labels
        seen.add(image.tobytes())
        again = change(picture, labels, (seed, 1))
        np.testing.assert_array_equal(again[0], image)
        np.testing.assert_array_equal(again[1], moved)
    assert len(seen) == 20


def test_without_scale_a_window_is_a_part_of_the_picture():
    picture, labels = scenes.picture(3).astype("float32"), scenes.mask(3).astype("int32")
    image, moved = example_of((8, 12))(picture, labels, (0, 7))
    windows = np.lib.stride_tricks.sliding_window_view(labels, (8, 12))
    places = np.argwhere((windows == moved.numpy()).all(axis=(2, 3)))
    assert len(places)
    assert any((picture[i : i + 8, j : j + 12] == image.numpy()).all() for i, j in places)


@pytest.mark.parametrize(
    "size, start", [((40, 50), (3, 5)), ((13, 9), (2, 0)), ((31, 47), (10, 30))]
)
def test_a_window_is_what_scaling_the_whole_picture_shows_there(size, start):
    picture, labels = blocks()
    window = (12, 14)
    motion = joint.Motion(*size, *start, window, tf.constant(False))
    moved = joint.move_picture(picture, motion, FILL).numpy()
    whole = np.round(tf.image.resize(picture, size, "bilinear", antialias=True).numpy())
    expected = np.broadcast_to(np.array(FILL, "float32"), (*window, 3)).copy()
    part = whole[start[0] : start[0] + 12, start[1] : start[1] + 14]
    expected[: part.shape[0], : part.shape[1]] = part
    np.testing.assert_allclose(moved, expected, atol=1)
    # Labels: the nearest by the centres of the pixels, 255 outside.
    i, j = (
        ((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size, labels.shape, strict=True)
    )
    nearest = labels[i][:, j][start[0] : start[0] + 12, start[1] : start[1] + 14]
    expected = np.full(window, 255)
    expected[: part.shape[0], : part.shape[1]] = nearest
    np.testing.assert_array_equal(joint.move_labels(labels, motion), expected)
    mirrored = motion._replace(mirrored=tf.constant(True))
    height, width = part.shape[:2]  # the padding stays below and to the right
    for found, whole in (
        (joint.move_labels(labels, mirrored).numpy(), expected),
        (joint.move_picture(picture, mirrored, FILL).numpy(), moved),
    ):
        np.testing.assert_array_equal(found[:, :width], whole[:, :width][:, ::-1])
        np.testing.assert_array_equal(found[:, width:], whole[:, width:])
        np.testing.assert_array_equal(found[height:], whole[height:])


def test_a_small_picture_is_padded_below_and_to_the_right():
    picture, labels = np.full((4, 6, 3), 200.0, "float32"), np.ones((4, 6), "int32")
    image, moved = (x.numpy() for x in example_of((8, 9))(picture, labels, (0, 0)))
    assert (moved[:4, :6] == 1).all() and (moved != 255).sum() == 24
    np.testing.assert_array_equal(image[:4, :6], 200)
    np.testing.assert_array_equal(image[moved == 255], np.tile(FILL, (48, 1)))
    # Colours are changed before the padding, which stays.
    changed = example_of((8, 9), photometric=True)(picture, labels, (0, 3))[0].numpy()
    np.testing.assert_array_equal(changed[moved == 255], np.tile(FILL, (48, 1)))
    assert (changed[:4, :6] != 200).any()


def test_scales_and_sizes_cover_their_range():
    labels = np.zeros((30, 60), "int32")
    draws = [joint.draw(labels, (seed, 0), (8, 8), (), (0.5, 2.0)) for seed in range(200)]
    heights = np.array([int(x.height) for x in draws])
    assert heights.min() < 17 and heights.max() > 57 and 34 < heights.mean() < 41
    assert all(abs(int(x.width) - 2 * int(x.height)) <= 1 for x in draws)
    corners = np.array([[int(x.top), int(x.left)] for x in draws])
    room = np.array([[int(x.height) - 8, int(x.width) - 8] for x in draws])
    assert (corners >= 0).all() and (corners <= room).all()
    shares = corners / np.maximum(room, 1)
    assert shares.min() < 0.02 and shares.max() > 0.98 and 0.4 < shares.mean() < 0.6
    mirrored = [bool(joint.draw(labels, (s, 0), (8, 8), flip=True).mirrored) for s in range(100)]
    assert 30 < sum(mirrored) < 70


@pytest.mark.parametrize(
    "size, into, expected",
    [
        ((100, 400), (2048, 512), (512, 2048)),
        ((300, 400), (2048, 512), (512, 683)),
        ((1024, 2048), (2049, 1025), (1025, 2049)),
        ((10, 200), (2048, 512), (102, 2048)),
    ],
)
def test_fit_into_keeps_the_proportions_and_both_limits(size, into, expected):
    motion = joint.draw(np.zeros(size, "int32"), (0, 0), (8, 8), into)
    found = int(motion.height), int(motion.width)
    assert np.abs(np.subtract(found, expected)).max() <= 1


def test_windows_of_one_class_are_drawn_again():
    """mmsegmentation's rule: two classes or more, none above the share; ten tries."""
    labels = np.zeros((40, 40), "int32")
    labels[:8, :8] = 1  # in the corner
    labels[30:] = 255  # which counts for neither
    draw = tf.function(lambda seed: joint.draw(labels, seed, (10, 10), cat_max_ratio=0.999))

    def good(seed):
        motion = draw(tf.constant([seed, 0]))
        shown = joint.move_labels(labels, motion._replace(window=(10, 10)))
        counts = np.bincount(shown.numpy().ravel(), minlength=256)[:255]
        return counts.max() < 0.999 * counts.sum() and (counts > 0).sum() > 1

    plain = np.mean([good(seed) for seed in range(60)])
    draws = [joint.draw(labels, (seed, 0), (10, 10)) for seed in range(60)]
    first = np.mean(
        [len(set(np.unique(joint.move_labels(labels, motion))) - {255}) > 1 for motion in draws]
    )
    assert plain > 2 * first > 0  # of ten windows one is better than of one
    still = np.zeros((20, 20), "int32")
    assert int(joint.draw(still, (0, 0), (10, 10), cat_max_ratio=0.75).top) >= 0  # it ends


@pytest.mark.parametrize(
    "labels, good",
    [
        ([0, 1, 255, 255, 255, 255, 255, 255, 255], True),  # ignored pixels are no class
        ([0, 0, 255, 255, 255], False),
        ([0, 0, 0, 1], False),  # three quarters are not less than these
        ([0, 0, 1, 2], True),
        ([255, 255], False),
    ],
)
def test_which_windows_show_enough(labels, good):
    assert bool(joint._mixed(tf.constant([labels]), 0.75)) == good


def test_photometric_distortion():
    grey = np.full((2, 2, 3), 100.0, "float32")
    red = np.broadcast_to(np.array([180.0, 60, 60], "float32"), (2, 2, 3))
    greys = [photometric_distortion(grey, (seed, 0)).numpy() for seed in range(120)]
    reds = [photometric_distortion(red, (seed, 0)).numpy() for seed in range(120)]
    for x in (*greys, *reds):
        assert x.min() >= 0 and x.max() <= 255 and (x == np.floor(x)).all()
    assert max(np.ptp(x, axis=-1).max() for x in greys) <= 1  # grey has no hue to move
    values = np.array([x[0, 0, 0] for x in greys])
    assert 0.15 < (values == 100).mean() < 0.35  # neither brightness nor contrast: a quarter
    assert values.min() < 50 and values.max() > 145 and values.min() >= (100 - 32) * 0.5 - 2
    hues = np.array([colorsys.rgb_to_hsv(*x[0, 0] / 255)[0] for x in reds])
    turned = np.where(hues > 0.5, hues - 1, hues)
    assert turned.min() < -0.05 and turned.max() > 0.05 and np.abs(turned).max() < 0.12
    spread = np.array([np.ptp(x[0, 0]) / x[0, 0].max() for x in reds])  # the saturation
    assert spread.min() < 0.45 and spread.max() > 0.9
    with pytest.raises(ValueError, match="needs images of 3 channels"):
        training_example(AugmentTable(photometric=True), DATA, (8, 8, 1), (0.0,))


def masks(*labels):
    sizes = [x.shape for x in labels]
    found = Masks(np.array(labels), LabelMap(), sizes, np.zeros((len(labels), 3)))
    return found


@pytest.mark.parametrize("window", [(8, 8), (20, 24), (32, 32), (7, 24)])
def test_tiles_show_every_pixel_once(window):
    images = np.stack([scenes.picture(i) for i in range(2)])
    split = Split(images, masks(*(scenes.mask(i) for i in range(2))))
    cut = tiles(split, DATA, (*window, 3))
    example, label, image = evaluation_example(DATA, (*window, 3), FILL), reader(cut.labels), images
    counts, total = np.zeros(256, int), 0
    for i in range(len(cut.labels)):
        shown, labels = example(reader(cut.images)(i), label(i))
        assert shown.shape == (*window, 3)
        counts += np.bincount(labels.numpy().ravel(), minlength=256)
        known = labels.numpy() < 255
        total += known.sum()
    expected = np.bincount(np.stack([scenes.mask(i) for i in range(2)]).ravel(), minlength=256)
    np.testing.assert_array_equal(counts[:255], expected[:255])
    assert total == expected[:255].sum() and image is images
    rows, columns = -(-20 // window[0]), -(-24 // window[1])
    assert len(cut.labels) == 2 * rows * columns


def test_tiles_of_scaled_pictures():
    images = np.stack([scenes.picture(0)])
    table = DataTable("folder:of scenes", fit_into=(48, 40))
    split = Split(images, masks(scenes.mask(0)))
    cut = tiles(split, table, (40, 30, 3))
    example = evaluation_example(table, (40, 30, 3), FILL)
    found = [example(reader(cut.images)(i), reader(cut.labels)(i)) for i in range(len(cut.labels))]
    whole = scenes.mask(0).repeat(2, 0).repeat(2, 1)  # 40 x 48
    np.testing.assert_array_equal(found[0][1], whole[:, :30])
    np.testing.assert_array_equal(found[1][1][:, 12:], whole[:, 30:])
    assert (found[1][1].numpy()[:, :12] == 255).all()
