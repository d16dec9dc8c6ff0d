"""Every operation beside PIL's, which is what its name means."""

import math

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tests.helpers import backends
from training.augment import pixels
from training.augment.randaugment import LEVELS, OPERATIONS, color_jitter, operation, randaugment

# tf.data does all of this whatever the backend is.
pytestmark = backends("tensorflow")

ENHANCE = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}


@pytest.fixture(params=[3, 1], ids=["rgb", "grey"])
def image(request, rng):
    """Smooth with noise, and with a narrow range in the last channel."""
    smooth = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((40, 30))
    x = np.asarray(smooth) + rng.integers(-9, 9, (30, 40, 3))
    x[..., 2] = 60 + x[..., 2] // 3
    return np.clip(x, 0, 255).astype("uint8")[..., -request.param :]


def pil(image):
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def assert_like(ours, theirs, atol=0):
    theirs = np.asarray(theirs)
    theirs = theirs[..., None] if theirs.ndim == 2 else theirs
    np.testing.assert_allclose(np.asarray(ours).astype(int), theirs.astype(int), atol=atol)


@pytest.mark.parametrize("name", ENHANCE)
@pytest.mark.parametrize("factor", [0.0, 0.1, 0.73, 1.0, 1.27, 1.9])
def test_enhancements(image, name, factor):
    ours = np.asarray(getattr(pixels, name)(image, factor))
    theirs = np.asarray(ENHANCE[name](pil(image)).enhance(factor)).reshape(image.shape)
    assert_like(ours, theirs, atol=1)
    assert np.mean(ours != theirs) < 0.01


@pytest.mark.parametrize("bits", [0, 1, 4, 7, 8])
def test_posterize(image, bits):
    expected = ImageOps.posterize(pil(image), bits) if bits else np.zeros_like(image)
    assert_like(pixels.posterize(image, bits), expected)


@pytest.mark.parametrize("threshold", [0, 100, 178.5, 255])
def test_solarize(image, threshold):
    assert_like(pixels.solarize(image, threshold), ImageOps.solarize(pil(image), threshold))


def test_autocontrast_and_equalize(image):
    assert_like(pixels.autocontrast(image), ImageOps.autocontrast(pil(image)), atol=1)
    assert_like(pixels.equalize(image), ImageOps.equalize(pil(image)))
    flat = np.full_like(image, 7)
    two = flat.copy()
    two[0, 0] = 9
    for x in (flat, two):
        assert_like(pixels.autocontrast(x), ImageOps.autocontrast(pil(x)))
        assert_like(pixels.equalize(x), ImageOps.equalize(pil(x)))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_places(image, magnitude, sign):
    """Magnitudes as torchvision's table has them."""
    height, width, _ = image.shape
    level = sign * magnitude / LEVELS
    right, down = (int(150 / 331 * side * level) for side in (width, height))
    for name, matrix in (
        ("shear_x", (1, 0.3 * level, 0, 0, 1, 0)),
        ("shear_y", (1, 0, 0, 0.3 * level, 1, 0)),
        ("translate_x", (1, 0, -right, 0, 1, 0)),
        ("translate_y", (1, 0, 0, 0, 1, -down)),
    ):
        moved = pil(image).transform((width, height), Image.Transform.AFFINE, matrix)
        ours = np.asarray(operation(name, image, magnitude, float(sign)))
        different = np.any(ours != np.asarray(moved).reshape(image.shape), axis=-1)
        assert different.mean() < 0.01, name  # halves between two pixels
    turned = np.asarray(pil(image).rotate(30 * level)).reshape(image.shape)
    ours = np.asarray(operation("rotate", image, magnitude, float(sign)))
    assert np.any(ours != turned, axis=-1).mean() < 0.01
    ours = np.asarray(pixels.rotate(image, math.radians(30 * level)))
    assert np.any(ours != turned, axis=-1).mean() < 0.01


@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_magnitudes_of_colours(image, magnitude):
    level = magnitude / LEVELS
    for name, enhance in ENHANCE.items():
        for sign in (1.0, -1.0):
            expected = enhance(pil(image)).enhance(1 + 0.9 * level * sign)
            assert_like(operation(name, image, magnitude, sign), expected, atol=1)
    bits = {0: 8, 9: 7, 30: 4}[magnitude]
    assert_like(operation("posterize", image, magnitude), ImageOps.posterize(pil(image), bits))
    threshold = {0: 255, 9: 178.5, 30: 0}[magnitude]
    assert_like(operation("solarize", image, magnitude), ImageOps.solarize(pil(image), threshold))
    assert_like(operation("identity", image, magnitude), image)
    for name in ("autocontrast", "equalize"):
        assert_like(operation(name, image, magnitude), getattr(ImageOps, name)(pil(image)), atol=1)


def test_randaugment_draws_every_operation_equally_and_both_directions(image):
    augment = randaugment(num_ops=1, magnitude=20)
    possible = {}
    for name in OPERATIONS:
        for sign in (1.0, -1.0):
            result = np.asarray(operation(name, image, 20, sign)).tobytes()
            possible.setdefault(result, []).append(name)
    seen = {}
    for key in range(600):
        result = np.asarray(augment(image, (0, key))).tobytes()
        seen[result] = seen.get(result, 0) + 1
    assert set(seen) == set(possible)
    for result, count in seen.items():
        expected = 600 * len(possible[result]) / 28
        assert abs(count - expected) < 5 * math.sqrt(expected)


def test_randaugment_applies_one_after_another(image):
    """Every result of two operations is one of all pairs; the seed decides."""
    augment = randaugment(num_ops=2, magnitude=9)
    pairs = set()
    for one in OPERATIONS:
        for sign in (1.0, -1.0):
            first = operation(one, image, 9, sign)
            for other in OPERATIONS:
                for other_sign in (1.0, -1.0):
                    pairs.add(np.asarray(operation(other, first, 9, other_sign)).tobytes())
    results = [np.asarray(augment(image, (1, key))) for key in range(30)]
    assert all(result.tobytes() in pairs for result in results)
    assert len({result.tobytes() for result in results}) > 20
    np.testing.assert_array_equal(augment(image, (1, 5)), results[5])


def test_color_jitter(image):
    jitter = color_jitter((0.0, 0.0, 0.0))
    np.testing.assert_array_equal(jitter(image, (0, 1)), image)
    only_brightness = color_jitter((0.4, 0.0, 0.0))
    factors = []
    for key in range(100):
        x = np.asarray(only_brightness(image, (0, key))).astype(float)
        inside = (x > 0) & (x < 255) & (image > 50)
        factors.append(np.mean(x[inside] / image[inside]))
    assert min(factors) > 0.58 and max(factors) < 1.41
    assert min(factors) < 0.7 and max(factors) > 1.3 and abs(np.mean(factors) - 1) < 0.08
    everything = color_jitter((0.4, 0.4, 0.4))
    assert len({np.asarray(everything(image, (0, key))).tobytes() for key in range(20)}) == 20
    np.testing.assert_array_equal(everything(image, (0, 3)), everything(image, (0, 3)))


def test_color_jitter_changes_saturation_too(rng):
    image = rng.integers(0, 256, (10, 10, 3), dtype=np.uint8)
    jitter = color_jitter((0.0, 0.0, 0.5))
    for key in range(5):
        result = np.asarray(jitter(image, (0, key))).astype(int)
        # the spread of the channels changes, and by one factor for the whole image
        inside = np.all((result > 0) & (result < 255), axis=-1)
        spread = (result.max(-1) - result.min(-1)) / np.maximum(np.ptp(image, axis=-1), 1)
        chosen = spread[inside & (np.ptp(image, axis=-1) > 100)]
        assert np.ptp(chosen) < 0.05 and 0.45 < chosen.mean() < 1.55
