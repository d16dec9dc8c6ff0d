import io
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.helpers import backends
from training import data
from training.augment import crops
from training.augment.transform import evaluation_transform, training_transform
from training.data.decoding import decode
from training.loop import run
from training.recipe.schema import AugmentTable, DataTable

# tf.data does all of this whatever the backend is.
pytestmark = backends("tensorflow")

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def encoded(pixels, kind="JPEG"):
    """The bytes of a picture; a JPEG keeps all of its colour."""
    file = io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def photo(rng):
    """Smooth, 90 high and 120 wide."""
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((120, 90), Image.Resampling.BICUBIC))


def windows(height, width, scale=SCALE, ratio=RATIO, count=2000):
    def one(key):
        return crops.random_window(height, width, tf.stack([0, key]), scale, ratio)

    return tf.map_fn(tf.function(one), tf.range(count)).numpy()


def test_windows_lie_inside_and_are_drawn_as_torchvision_does():
    height, width = 300, 400
    drawn = windows(height, width)
    top, left, h, w = drawn.T
    assert top.min() >= 0 and left.min() >= 0
    assert (top + h).max() <= height and (left + w).max() <= width
    area, ratio = h * w / (height * width), w / h
    assert area.min() > 0.079 and area.max() <= 1.0
    assert ratio.min() > 0.73 and ratio.max() < 1.36
    # What fits at every ratio is not rejected: the areas are uniform there, the ratios' logarithms
    # symmetric.
    low = np.sort(area[area < 0.5])
    uniform = np.linspace(0.08, 0.5, len(low))
    assert np.abs(low - uniform).max() < 0.03
    assert abs(np.log(ratio[area < 0.5]).mean()) < 0.02
    assert abs(np.log(ratio[area < 0.5]).std() - math.log(4 / 3) / math.sqrt(3)) < 0.01
    # Anywhere, up to both edges.
    for start, space in ((top, height - h), (left, width - w)):
        share = start[space > 100] / space[space > 100]
        assert abs(share.mean() - 0.5) < 0.03 and share.min() < 0.02 and share.max() > 0.98
        assert (start == space).any() and (start == 0).any()


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (100, 1000, [0, 433, 100, 133]),
        (1000, 100, [433, 0, 133, 100]),
        (100, 100, [0, 0, 100, 100]),
    ],
)
def test_the_middle_where_nothing_fits(height, width, expected):
    scale = (1.0, 1.0)
    ratio = RATIO if height != width else (0.999, 1.001)
    for window in windows(height, width, scale, ratio, count=3):
        np.testing.assert_allclose(window, expected, atol=1)


def test_a_whole_crop_is_the_resized_picture(photo):
    whole = {"seed": (0, 1), "scale": (1.0, 1.0), "ratio": (120 / 90, 120 / 90)}
    expected = np.asarray(Image.fromarray(photo).resize((32, 24), Image.Resampling.BICUBIC))
    for source, atol in ((photo, 1), (encoded(photo, "PNG"), 1), (encoded(photo), 4)):
        source = tf.constant(source)
        ours = crops.random_resized_crop(source, (24, 32), 3, interpolation="bicubic", **whole)
        assert ours.dtype == tf.uint8 and ours.shape == (24, 32, 3)
        np.testing.assert_allclose(ours.numpy().astype(int), expected.astype(int), atol=atol)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(24, 32), (200, 60), (90, 120)])
def test_resize_is_that_of_tensorflow_and_of_pil(photo, size, interpolation):
    ours = crops.resize(tf.constant(photo), size, interpolation)
    theirs = tf.image.resize(photo, size, interpolation, antialias=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    method = getattr(Image.Resampling, interpolation.upper())
    pil = np.asarray(Image.fromarray(photo).resize(size[::-1], method)).astype("float32")
    np.testing.assert_allclose(np.clip(ours, 0, 255), pil, atol=1.5)


def test_jpeg_png_and_array_are_cropped_alike(photo):
    jpeg = encoded(photo)
    pixels = decode(jpeg, 3)
    png = encoded(pixels.numpy(), "PNG")
    different = set()
    for key in range(10):
        options = (24, 24), 3, (0, key), SCALE, RATIO, "bilinear"
        of_jpeg, of_png, of_pixels = (
            crops.random_resized_crop(tf.constant(source), *options).numpy().astype(int)
            for source in (jpeg, png, pixels)
        )
        np.testing.assert_array_equal(of_png, of_pixels)
        assert np.abs(of_jpeg - of_pixels).max() <= 3  # colours are interpolated at the crop's edge
        different.add(of_png.tobytes())
    assert len(different) == 10


def test_decode(photo):
    np.testing.assert_array_equal(decode(encoded(photo, "PNG"), 3), photo)
    jpeg = encoded(photo)
    theirs = np.asarray(Image.open(io.BytesIO(jpeg)))
    np.testing.assert_allclose(decode(jpeg, 3).numpy().astype(int), theirs, atol=1)
    grey = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"))[..., None]
    np.testing.assert_allclose(decode(jpeg, 1).numpy().astype(int), grey, atol=2)
    cmyk = io.BytesIO()  # some pictures of ImageNet are such
    Image.fromarray(photo).convert("CMYK").save(cmyk, "JPEG", quality=95)
    back = decode(cmyk.getvalue(), 3).numpy().astype(int)
    assert np.abs(back - photo).mean() < 3
    for broken in (b"", b"no image", jpeg[: len(jpeg) // 2], encoded(photo, "PNG")[:500]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(broken, 3)


def test_pad_crop_shifts_over_a_reflection():
    image = np.arange(30, dtype="float32").reshape(5, 6, 1)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    possible = {padded[y : y + 5, x : x + 6].tobytes(): (y, x) for y in range(5) for x in range(5)}
    seen = [possible[crops.pad_crop(image, 2, (0, k)).numpy().tobytes()] for k in range(300)]
    assert len(set(seen)) == 25
    assert max(map(seen.count, set(seen))) < 40


def test_erasing(rng):
    image = np.full((64, 48, 3), 1000.0, "float32")  # no noise looks like it
    shares, ratios, values = [], [], []
    for key in range(300):
        erased = np.asarray(crops.erase(image, (0, key), 0.5))
        gone = np.any(erased != image, axis=-1)
        if gone.any():
            rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
            assert gone[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            assert gone.sum() == len(rows) * len(columns)
            shares.append(gone.mean())
            ratios.append(len(columns) / len(rows))
            values.append(erased[gone])
    assert 110 < len(shares) < 190
    assert 0.015 < min(shares) < 0.04 and 0.25 < max(shares) < 0.345
    assert min(ratios) < 0.5 and max(ratios) > 2
    values = np.concatenate(values)
    assert values.min() >= 0 and values.max() <= 255 and abs(values.mean() - 127.5) < 1
    np.testing.assert_array_equal(crops.erase(image, (0, 1), 0.0), image)


def test_evaluation_is_the_preprocessor(photo):
    import keras_vit

    data = DataTable("folder:x", crop_fraction=0.8, interpolation="bilinear")
    transform = evaluation_transform(data, (32, 32, 3))
    ours = transform(tf.constant(encoded(photo, "PNG"))).numpy()
    pil = Image.fromarray(photo).resize((53, 40), Image.Resampling.BILINEAR)
    expected = np.asarray(pil)[4:36, 10:42].astype("float32")
    np.testing.assert_allclose(ours, expected, atol=1)
    layer = keras_vit.Preprocessor(32, "short_side", 0.8, "bilinear", mean=(0,) * 3, std=(1,) * 3)
    theirs = 255 * np.asarray(layer(photo))
    np.testing.assert_allclose(ours, theirs, atol=1.01)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_array_of_the_models_size_is_left_as_it_is(photo, dtype):
    data = DataTable("npz:x", crop_fraction=0.8)
    image = tf.constant(photo.astype(dtype) + (0.25 if dtype == "float32" else 0))
    evaluated = evaluation_transform(data, (90, 120, 3))(image)
    trained = training_transform(AugmentTable(), data, (90, 120, 3))(image, (0, 1))
    for result in (evaluated, trained):
        assert result.dtype == tf.float32
        np.testing.assert_array_equal(result, tf.cast(image, tf.float32))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(180, 240), (45, 60), (64, 64), (30, 120)])
def test_an_array_of_another_size_is_resized_whole(photo, size, interpolation):
    height, width = size
    data = DataTable("npz:x", crop_fraction=0.5, interpolation=interpolation)
    # As large as it takes to fill the model's size; then the middle.
    scale = max(height / 90, width / 120)
    large = round(scale * 120 - 1e-6), round(scale * 90 - 1e-6)
    method = getattr(Image.Resampling, interpolation.upper())
    pil = np.asarray(Image.fromarray(photo).resize(large, method)).astype("float32")
    top, left = round((large[1] - height) / 2), round((large[0] - width) / 2)
    expected = pil[top : top + height, left : left + width]
    evaluated = evaluation_transform(data, (*size, 3))
    trained = training_transform(AugmentTable(), data, (*size, 3))
    for dtype in ("uint8", "float32"):
        image = tf.constant(photo.astype(dtype))
        for result in (evaluated(image), tf.function(evaluated)(image), trained(image, (0, 1))):
            assert result.dtype == tf.float32 and result.shape == (*size, 3)
            np.testing.assert_allclose(result, expected, atol=1)


def test_a_transform_of_everything_is_a_function_of_the_seed(photo):
    augment = AugmentTable(
        crop_scale=(0.2, 1.0),
        rotate=10.0,
        flip=True,
        randaugment=(2, 9),
        color_jitter=(0.3, 0.3, 0.3),
        erasing=0.25,
    )
    transform = training_transform(augment, DataTable("folder:x"), (32, 24, 3))
    transform = tf.function(transform)
    contents = tf.constant(encoded(photo))
    results = [transform(contents, tf.constant((0, key))).numpy() for key in range(20)]
    assert all(x.shape == (32, 24, 3) and x.dtype == np.float32 for x in results)
    assert all(x.min() >= 0 and x.max() <= 255 for x in results)
    assert len({x.tobytes() for x in results}) == 20
    np.testing.assert_array_equal(transform(contents, tf.constant((0, 7))), results[7])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_arrays_are_cropped_too(photo, dtype):
    image = tf.constant(photo.astype(dtype))
    cropped = training_transform(
        AugmentTable(crop_scale=(0.2, 0.3)), DataTable("digits"), (90, 120, 3)
    )
    shifted = training_transform(AugmentTable(pad_crop=20), DataTable("digits"), (90, 120, 3))
    for transform in (cropped, shifted):
        results = [transform(image, (0, key)) for key in range(4)]
        assert all(x.shape == image.shape and x.dtype == tf.float32 for x in results)
        assert len({x.numpy().tobytes() for x in results}) == 4
    # A quarter of the area shows gradients that are half as steep.
    steepness = [
        np.abs(np.diff(x, axis=1)).mean() for x in (cropped(image, (0, 1)), photo.astype(int))
    ]
    assert 0.3 < steepness[0] / steepness[1] < 0.75


def test_flip_mirrors_half_and_nothing_else(photo):
    transform = training_transform(
        AugmentTable(flip=True), DataTable("folder:x", crop_fraction=1.0), (90, 120, 3)
    )
    results = [transform(tf.constant(encoded(photo, "PNG")), (0, k)).numpy() for k in range(40)]
    mirrored = [np.array_equal(x, photo[:, ::-1]) for x in results]
    assert 8 < sum(mirrored) < 32
    assert all(m or np.array_equal(x, photo) for m, x in zip(mirrored, results, strict=True))


def test_what_does_not_fit_the_image_is_refused():
    with pytest.raises(ValueError, match=r"pad_crop must be below.*Received: augment.pad_crop=8"):
        training_transform(AugmentTable(pad_crop=8), DataTable("digits"), (8, 9, 1))
    with pytest.raises(ValueError, match="1 or 3 channels. Received: 4"):
        training_transform(AugmentTable(randaugment=(1, 1)), DataTable("digits"), (8, 8, 4))


def test_grey_arrays_train_at_another_size(small, tmp_path):
    """The digits of 8 x 8 pixels, in a model for 16 x 24."""
    settings = ["model.image_size=[16, 24]", "train.epochs=1"]
    job = run.prepare(small, settings, tmp_path / "run")
    result = run.execute(job)
    assert result["test_images"] == 359 and result["export_max_difference"] < 1e-3
    assert job.folder.predictions.exists()
    (images, _), *_ = data.evaluation_dataset(
        job.splits.test, 4, data.classified(evaluation_transform(job.recipe.data, (16, 24, 1)), 10)
    )
    digit = Image.fromarray(job.splits.test.images[0, ..., 0])
    pil = np.asarray(digit.resize((24, 24), Image.Resampling.BICUBIC))[4:20]
    np.testing.assert_allclose(images[0, ..., 0], pil, atol=1)
