"""Pictures become what timm's evaluation transform makes of them, by PIL or by tensors."""

import io
from fractions import Fraction

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.ops.sides import fitted_size
from keras_vit.picture_files import MAX_RATIO
from keras_vit.preprocessing import INTERPOLATIONS, load_image
from tests.helpers import PHOTOS, backends, once, tiny_vit, to_numpy

UNIT = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}  # the output is pixels 0..255


def picture(height, width, seed=0):
    """Smooth structure and some noise: what resizing has to do with in a photo."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3)).astype("uint8"))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), "float32")
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype("uint8")


SIZES = [(3, 5), (20, 31), (480, 640), (640, 427), (50, 1000), (900, 300), (300, 20), (64, 64)]


@pytest.mark.parametrize(
    ("resize", "interpolation"),
    [*(("short_side", x) for x in INTERPOLATIONS), ("squash", "lanczos")],
)
@pytest.mark.parametrize("size", SIZES)
def test_tensors_equal_pil(size, resize, interpolation):
    pixels = picture(*size)
    layer = keras_vit.Preprocessor(64, resize, interpolation=interpolation, **UNIT)
    by_pil = to_numpy(layer(pixels))
    by_matrix = to_numpy(layer(keras.ops.convert_to_tensor(pixels)))
    assert by_pil.shape == by_matrix.shape == (64, 64, 3)
    assert np.abs(by_pil - by_matrix).max() <= 2.001


@pytest.mark.parametrize("pictures", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_what_the_crop_keeps_is_what_pil_makes_of_the_whole(pictures):
    """To the last bit: every interpolation, both ways to resize, pictures of any ordinary size."""
    rng = np.random.default_rng(pictures)
    for number in range(pictures):
        height, width = np.exp(rng.uniform(0, np.log(900), 2)).astype(int)
        if not 1 <= max(height, width) / min(height, width) <= MAX_RATIO:
            continue
        pixels = rng.integers(0, 256, (height, width, 1), np.uint8)
        size = [64, (48, 80), (80, 48), int(rng.integers(1, 200))][number % 4]
        for resize in ("short_side", "squash"):
            for interpolation in INTERPOLATIONS:
                fraction = rng.uniform(0.7, 1)
                layer = keras_vit.Preprocessor(size, resize, fraction, interpolation, (0,), (1,))
                (h, top, rows), (w, left, columns) = layer._resized(height, width)
                method = getattr(Image.Resampling, interpolation.upper())
                whole = np.asarray(Image.fromarray(pixels[..., 0]).resize((w, h), method))
                expected = whole[top : top + rows, left : left + columns]
                np.testing.assert_array_equal(layer._resize_by_pil(pixels)[..., 0], expected)


def test_pil_never_makes_the_whole_of_a_strip(monkeypatch):
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, *x: sizes.append(size) or resize(self, size, *x)
    )
    layer = keras_vit.Preprocessor(64, **UNIT)
    for height, width in ((2, 400), (400, 2), (30, 1500), (1500, 30)):
        layer(np.zeros((height, width, 3), "uint8"))
    assert len(sizes) == 4 * 2  # a side at a time
    assert max(w * h for w, h in sizes) <= 64 * 73 * MAX_RATIO  # 73 is the resized short side


@pytest.mark.parametrize("height, width", [(1, 201), (403, 2), (1, 1000000)])
def test_strips_are_refused_where_their_size_is_known(height, width):
    message = f"200 times the shorter.*Received: {height} x {width} pixels"
    pixels = np.zeros((height, width, 3), "uint8")
    for resize in ("short_side", "squash"):
        layer = keras_vit.Preprocessor(32, resize)
        for given in (pixels, pixels[None], keras.ops.convert_to_tensor(pixels)):
            with pytest.raises(ValueError, match=message):
                layer(given)


@pytest.mark.parametrize("shape", [(1, 100000, 3), (70000, 2, 3)])
def test_of_strips_that_only_a_graph_sees_the_middle_is_taken(shape):
    """What is cut is what no picture has; without it a matrix had 32 x 100,000 numbers."""
    tf = pytest.importorskip("tensorflow")
    strip = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    height, width = (min(side, MAX_RATIO * min(shape[:2])) for side in shape[:2])
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    middle = strip[top : top + height, left : left + width]
    for resize in ("short_side", "squash"):
        layer = keras_vit.Preprocessor(32, resize, **UNIT)
        data = tf.data.Dataset.from_generator(
            lambda: iter([strip]), output_signature=tf.TensorSpec((None, None, 3), "uint8")
        )
        (found,) = data.map(layer).as_numpy_iterator()
        assert np.abs(found - to_numpy(layer(middle))).max() <= 2.001


@pytest.mark.parametrize("target", [64, (48, 80), (80, 48)])
@pytest.mark.parametrize("resize", ["short_side", "squash"])
def test_sizes_are_those_of_torchvision(resize, target):
    """Written down once more, from torchvision's documentation, on one grey ramp a side."""
    for height, width in [(100, 151), (151, 100), (64, 64), (33, 200)]:
        th, tw = (target, target) if isinstance(target, int) else target
        sh, sw = int(th / 0.9), int(tw / 0.9)
        if resize == "squash":
            new = (sh, sw)
        elif sh == sw:
            short = min(height, width)
            new = tuple(sh if x == short else int(sh * x / short) for x in (height, width))
        else:
            ratio = min(height / sh, width / sw)
            new = (round(height / ratio), round(width / ratio))
        top, left = round((new[0] - th) / 2), round((new[1] - tw) / 2)
        pixels = picture(height, width)
        expected = Image.fromarray(pixels).resize(new[::-1], Image.Resampling.BICUBIC)
        expected = np.asarray(expected)[top : top + th, left : left + tw]
        layer = keras_vit.Preprocessor(target, resize=resize, crop_fraction=0.9, **UNIT)
        np.testing.assert_allclose(to_numpy(layer(pixels)), expected, atol=1e-3)


def authors_size(height, width, short_side, longest):
    """Written down once more, from what DETR's authors do with floats."""
    low, high, size = float(min(height, width)), float(max(height, width)), short_side
    if high / low * size > longest:
        size = int(round(longest * low / high))
    if min(height, width) == size:
        return height, width
    if width < height:
        return int(size * height / width), size
    return size, int(size * width / height)


FITTED = {
    (480, 640): (800, 1066),
    (427, 640): (800, 1199),
    (305, 574): (708, 1332),
    (574, 305): (1332, 708),
    (800, 900): (800, 900),
    (800, 1400): (762, 1333),
    (10, 1000): (13, 1300),
}


def test_fit_gives_the_sizes_of_the_authors_of_detr():
    for size, expected in FITTED.items():
        assert fitted_size(*size, 800, 1333) == authors_size(*size, 800, 1333) == expected
    rng = np.random.default_rng(0)
    for height, width in rng.integers(8, 2000, (3000, 2)).tolist():
        if max(height, width) <= 200 * min(height, width):
            expected = authors_size(height, width, 800, 1333)
            assert fitted_size(height, width, 800, 1333) == expected, (height, width)


@pytest.mark.parametrize("size", [(30, 47), (90, 40), (20, 61), (40, 50)])
def test_fit_equals_pil_with_arrays_and_tensors(size):
    pixels = picture(*size)
    layer = keras_vit.Preprocessor((40, 64), "fit", 1.0, "bilinear", **UNIT)
    h, w = fitted_size(*size, 40, 64)
    expected = np.asarray(Image.fromarray(pixels).resize((w, h), Image.Resampling.BILINEAR))
    found = to_numpy(layer(pixels))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert layer.compute_output_shape((None, *size, 3)) == (None, h, w, 3)
    assert layer.compute_output_shape((None, None, 3)) == (None, None, 3)
    by_matrix = to_numpy(layer(keras.ops.convert_to_tensor(pixels)))
    assert np.abs(found - by_matrix).max() <= 2.001
    assert keras_vit.Preprocessor.from_config(layer.get_config()).get_config() == layer.get_config()


def test_fit_inside_tf_data_on_every_backend():
    tf = pytest.importorskip("tensorflow")
    pictures = [picture(*size) for size in [(30, 47), (90, 40), (20, 61), (40, 50), (61, 20)]]
    layer = keras_vit.Preprocessor((40, 64), "fit", 1.0, "bilinear", **UNIT)
    data = tf.data.Dataset.from_generator(
        lambda: iter(pictures), output_signature=tf.TensorSpec((None, None, 3), "uint8")
    )
    for found, pixels in zip(data.map(layer).as_numpy_iterator(), pictures, strict=True):
        expected = to_numpy(layer(pixels))
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 2.001


@pytest.mark.parametrize("convention", ["timm", "transformers"])
def test_odd_remainders_are_halved_as_the_convention_says(convention):
    """496 x 280 pixels become 439 x 248; of 215 rows left over timm drops 108, transformers 107."""
    ramp = (np.arange(439) // 2).astype("uint8")[:, None, None].repeat(248, 1).repeat(3, 2)
    layer = keras_vit.Preprocessor(224, crop_fraction=224 / 248, convention=convention, **UNIT)
    top = {"timm": 108, "transformers": 107}[convention]
    for pixels in (ramp, keras.ops.convert_to_tensor(ramp)):
        np.testing.assert_allclose(
            to_numpy(layer(pixels)), ramp[top : top + 224, 12:236], atol=1e-3
        )


def test_what_was_saved_before_there_were_conventions_is_timms():
    config = keras_vit.Preprocessor((24, 16), crop_fraction=0.9).get_config()
    del config["convention"]
    again = keras_vit.Preprocessor.from_config(config)
    assert (again.convention, again.crop_fraction) == ("timm", 0.9)


@pytest.mark.parametrize("target", [(248, 160), (96, 144)])
def test_proportions_round_half_to_even_where_the_crop_is_no_square(target):
    layer = keras_vit.Preprocessor(target, crop_fraction=1.0)
    halves = 0
    for height in range(20, 300, 3):
        for width in range(20, 300, 4):
            (h, *_), (w, *_) = layer._resized(height, width)
            exact = max(Fraction(target[0], height), Fraction(target[1], width))
            assert (h, w) == (round(height * exact), round(width * exact))
            halves += any((2 * side * exact) % 2 == 1 for side in (height, width))
    assert halves > 10


def test_a_batch_is_its_pictures_and_normalisation_is_the_formula():
    batch = np.stack([picture(40, 50, seed) for seed in range(3)])
    layer = keras_vit.Preprocessor(32)
    singles = np.stack([to_numpy(layer(image)) for image in batch])
    np.testing.assert_allclose(to_numpy(layer(batch)), singles, atol=1e-6)
    pixels = to_numpy(keras_vit.Preprocessor(32, **UNIT)(batch))
    expected = (pixels / 255 - keras_vit.preprocessing.IMAGENET_MEAN) / np.array(
        keras_vit.preprocessing.IMAGENET_STD
    )
    np.testing.assert_allclose(singles, expected, atol=1e-5)


def test_what_needs_no_change_stays():
    constant = np.full((50, 70, 3), 117, "uint8")
    for pixels in (constant, keras.ops.convert_to_tensor(constant)):
        found = to_numpy(keras_vit.Preprocessor(32, **UNIT)(pixels))
        np.testing.assert_allclose(found, np.full((32, 32, 3), 117), rtol=1e-6)
    pixels = picture(32, 32)
    same = keras_vit.Preprocessor(32, crop_fraction=1.0, **UNIT)
    np.testing.assert_allclose(to_numpy(same(pixels)), pixels, atol=1e-4)
    np.testing.assert_allclose(to_numpy(keras_vit.Preprocessor(32, None, **UNIT)(pixels)), pixels)


def test_inside_tf_data_on_every_backend():
    tf = pytest.importorskip("tensorflow")
    sizes = [(40, 50), (90, 33), (290, 90), (33, 90), (65, 60)]
    pictures = [picture(*size) for size in sizes]
    layer = keras_vit.Preprocessor(32)
    data = tf.data.Dataset.from_generator(
        lambda: iter(pictures), output_signature=tf.TensorSpec((None, None, 3), "uint8")
    )
    other = keras_vit.Preprocessor(32, convention="transformers")
    for x in (layer, other, keras_vit.Preprocessor((24, 32), crop_fraction=(0.9, 0.8))):
        found = list(data.map(x).batch(5).as_numpy_iterator())[0]
        expected = np.stack([to_numpy(x(image)) for image in pictures])
        assert np.abs(found - expected).max() <= 2.001 / 255 / 0.224
    starts = [{x._resized(*image.shape[:2])[0][1] for image in pictures} for x in (layer, other)]
    assert starts[0] != starts[1]  # so that some picture tells the conventions apart


@pytest.mark.parametrize("size", [(61, 47), (20, 30)])
def test_tensors_of_tensorflow_with_a_known_size_on_every_backend(size):
    tf = pytest.importorskip("tensorflow")
    pixels, layer = picture(*size), keras_vit.Preprocessor(32, **UNIT)
    assert np.abs(np.array(layer(tf.constant(pixels))) - to_numpy(layer(pixels))).max() <= 2.001


def test_as_the_first_layer_of_a_model_that_is_saved(tmp_path):
    inputs = keras.Input((None, None, 3))
    layer = keras_vit.Preprocessor((24, 16), "squash", 0.9, "bilinear", (0.5,) * 3, (0.5,) * 3)
    model = keras.Model(inputs, tiny_vit()(layer(inputs)))
    pixels = picture(60, 41)[None].astype("float32")
    expected = to_numpy(model(pixels))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(to_numpy(loaded(pixels)), expected, atol=1e-6)
    assert loaded.layers[1].get_config() == layer.get_config()


@backends("tensorflow")  # the others hand the model to a process with TensorFlow
def test_inside_an_export_that_takes_bytes_of_any_size(tmp_path, in_this_process):
    inputs = keras.Input((None, None, 3), dtype="uint8")
    layer = keras_vit.Preprocessor((24, 16), crop_fraction=0.9, convention="transformers")
    model = keras.Model(inputs, tiny_vit()(layer(inputs)))
    pixels = np.stack([picture(60, 41, seed) for seed in range(3)])
    report = keras_vit.export(model, tmp_path / "saved_model", samples=pixels)
    assert report.max_difference < 1e-4
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        loaded = tf.saved_model.load(tmp_path / "saved_model")
        # whose height is resized first, which only the call tells; 103 rows of 127 are left over
        tall = picture(299, 40)[None]
        (found,) = loaded.serve(tall).values()
        np.testing.assert_allclose(found, to_numpy(model(tall)), atol=1e-5)


def test_every_kind_of_picture_becomes_rgb(tmp_path):
    rgb = Image.fromarray(picture(20, 30))
    rotated = Image.Exif()
    rotated[0x0112] = 6  # to be turned by 90 degrees
    for mode, name in [("RGB", "png"), ("L", "png"), ("LA", "png"), ("RGBA", "png"), ("P", "png")]:
        path = tmp_path / f"{mode}.{name}"
        rgb.convert(mode).save(path)
        np.testing.assert_array_equal(
            load_image(path), np.asarray(Image.open(path).convert("RGB")), err_msg=mode
        )
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert load_image(str(tmp_path / "cmyk.jpg")).shape == (20, 30, 3)
    rgb.save(tmp_path / "turned.png", exif=rotated)
    turned = load_image((tmp_path / "turned.png").read_bytes())
    np.testing.assert_array_equal(turned, np.rot90(np.asarray(rgb), -1))
    grey = picture(4, 5)[..., 0]
    for array in (grey, grey[..., None], np.float32(grey)):
        np.testing.assert_array_equal(load_image(array), np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(load_image(np.dstack([picture(4, 5), grey])), picture(4, 5))
    np.testing.assert_array_equal(load_image(rgb), np.asarray(rgb))


def test_what_is_no_picture_is_named(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(picture(40, 40)).save(whole, "png")
    (tmp_path / "half.png").write_bytes(whole.getvalue()[:200])
    for source, message in [
        (tmp_path / "none.jpg", "There is no such picture. Received.*none.jpg"),
        (tmp_path / "half.png", "and complete. Received.*half.png"),
        (b"text", "a file of 4 bytes: UnidentifiedImageError"),
        (np.zeros((3, 4, 5)), "1, 3 or 4 channels. Received: shape=\\(3, 4, 5\\)"),
        (np.full((3, 4, 3), np.nan), "Pixels must be 0..255. Received: float64 values"),
        (np.full((3, 4, 3), -1), "Pixels must be 0..255. Received: int64 values from -1"),
        (17, "must be a path"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_image(source)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, "image_size must be a positive integer"),
        ({"resize": "crop"}, "resize must be one of 'short_side', 'squash', None"),
        ({"crop_fraction": 1.2}, "in \\(0, 1\\]. Received: crop_fraction=1.2"),
        ({"crop_fraction": "all"}, "in \\(0, 1\\]. Received: crop_fraction='all'"),
        ({"interpolation": "area"}, "interpolation must be one of 'bilinear'"),
        ({"mean": 0.5}, "mean must hold one number per channel. Received: mean=0.5"),
        ({"std": (1, 1)}, "one number per channel, and std must be above 0. Received.*\\(1, 1\\)"),
        ({"std": (1, 0, 1)}, "std must be above 0"),
        ({"std": (1, 1e-45, 1)}, "std must be above 0"),
        ({"std": (1, float("nan"), 1)}, "std must hold one number per channel"),
        ({"mean": (0, float("inf"), 0)}, "mean must hold one number per channel"),
        ({"mean": (0, 10**400, 0)}, "mean must hold one number per channel"),
        ({"mean": "123"}, "mean must hold one number per channel. Received: mean='123'"),
        ({"mean": (), "std": ()}, "mean must hold one number per channel. Received: mean=\\(\\)"),
        ({"crop_fraction": (0.9,)}, "in \\(0, 1\\]. Received: crop_fraction=\\(0.9,\\)"),
        ({"crop_fraction": (0.9, float("nan"))}, "in \\(0, 1\\]"),
        ({"resize": "fit"}, "fit.*crops nothing.*Received: crop_fraction=0.875"),
        (
            {"resize": "fit", "crop_fraction": 1, "image_size": (8, 4)},
            "shorter side and the most of the longer",
        ),
        ({"convention": "torchvision"}, "convention must be one of 'timm', 'transformers'"),
    ],
)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_vit.Preprocessor(**arguments)


def test_bad_tensors_are_explained():
    for shape in [(5, 3), (5, 5, 1), (0, 5, 3), (2, 2, 5, 5, 3)]:
        with pytest.raises(ValueError, match="Preprocessor expects pictures.*load_image"):
            keras_vit.Preprocessor(8)(np.zeros(shape, "uint8"))
    with pytest.raises(ValueError, match="With resize=None pictures must have the size \\(8, 8\\)"):
        keras_vit.Preprocessor(8, None)(np.zeros((9, 8, 3), "float32"))


@once
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_are_resized_alike(channels):
    """Those of RGB together, as PIL does it, and any other number one by one."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 41, channels), "uint8")
    unit = {"mean": (0,) * channels, "std": (1,) * channels}
    found = keras_vit.Preprocessor(16, **unit).resized(pixels)
    alone = keras_vit.Preprocessor(16, mean=(0,), std=(1,))
    for i in range(channels):
        np.testing.assert_array_equal(found[..., i : i + 1], alone.resized(pixels[..., i : i + 1]))


@once
@pytest.mark.parametrize("convention", ["timm", "keras"])
def test_a_batch_is_prepared_as_its_pictures_are(convention):
    share = 1 if convention == "keras" else 0.875
    preprocessor = keras_vit.Preprocessor(
        (24, 16), crop_fraction=share, convention=convention, interpolation="bilinear"
    )
    model = tiny_vit(preprocessor=preprocessor)
    pictures = [np.random.default_rng(i).integers(0, 256, (40, 30 + i, 3), "uint8") for i in (0, 1)]
    expected = np.stack([to_numpy(preprocessor(x)) for x in pictures])
    np.testing.assert_array_equal(to_numpy(model.preprocess_images(pictures)), expected)
    prepare = model.preparing()
    assert all(prepare(x).dtype == "uint8" for x in pictures)


def test_predict_images_names_classes_and_takes_every_source(tmp_path):
    preprocessor = keras_vit.Preprocessor((24, 16), crop_fraction=0.9)
    names = ["cat", "dog", "car", "tree"]
    model = tiny_vit(preprocessor=preprocessor, class_names=names)
    pixels = picture(50, 60)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = model.predict_images([tmp_path / "a.png", pixels, Image.fromarray(pixels)], top=2)
    for other in found[1:]:
        assert [name for name, _ in other] == [name for name, _ in found[0]] and len(other) == 2
        np.testing.assert_allclose([p for _, p in other], [p for _, p in found[0]], atol=1e-5)
    logits = to_numpy(model(to_numpy(preprocessor(pixels))[None]))[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    assert found[0][0][0] == names[expected.argmax()]
    np.testing.assert_allclose(found[0][0][1], expected.max(), rtol=1e-5)

    # a model that takes pixels itself gives the same, and so does one that was saved
    other = tiny_vit(preprocessor=preprocessor, class_names=names, include_preprocessing=True)
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        theirs.assign(keras.ops.copy(ours))
    other.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for taker in (other, loaded):
        again = taker.predict_images([pixels], top=2)[0]
        assert [name for name, _ in again] == [name for name, _ in found[0]]
        np.testing.assert_allclose([p for _, p in again], [p for _, p in found[0]], atol=1e-5)
    assert keras_vit.resize(model, (48, 32)).predict_images([pixels])[0][0][0] in names
    with pytest.raises(ValueError, match="predict_images needs a model with a head and with"):
        tiny_vit().predict_images([pixels])
    with pytest.raises(ValueError, match="images must be a list of pictures"):
        model.predict_images("a.png")
    for one in (pixels, pixels[..., :1], pixels[..., 0]):
        with pytest.raises(ValueError, match=r"a list, \[image\]. Received: an array"):
            model.predict_images(np.asarray(one))


@pytest.mark.parity
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_equals_timm_on_photos(mode, interpolation):
    timm = pytest.importorskip("timm")
    if not PHOTOS.is_dir():
        pytest.skip(f"no photos in {PHOTOS}")
    transform = timm.data.create_transform(
        (3, 224, 224), interpolation=interpolation, crop_pct=0.9, crop_mode=mode
    )
    resize = {"center": "short_side", "squash": "squash"}[mode]
    layer = keras_vit.Preprocessor(224, resize, 0.9, interpolation)
    photos = [load_image(path) for path in sorted(PHOTOS.glob("*.jpg"))]
    photos += [picture(3, 5), picture(20, 31), picture(3000, 4000), picture(50, 10000)]
    photos += [picture(10000, 50), picture(1300, 500)]
    std = np.array(layer.std) * 255
    for photo in photos:
        theirs = transform(Image.fromarray(photo)).numpy().transpose(1, 2, 0)
        assert np.abs((to_numpy(layer(photo)) - theirs) * std).max() < 0.01
        tensor = to_numpy(layer(keras.ops.convert_to_tensor(photo)))
        assert np.abs((tensor - theirs) * std).max() <= 2.001
