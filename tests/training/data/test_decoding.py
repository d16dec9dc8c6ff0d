"""Training and prediction see the same pixels, whatever the file."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vit.picture_files import MAX_RATIO, load_image
from tests.helpers import backends
from training import data
from training.augment import crops
from training.augment.transform import evaluation_transform, training_transform
from training.data.decoding import JPEG, OTHER, PNG, decode, kind
from training.recipe.schema import DataTable

# tf.data does all of this whatever the backend is.
pytestmark = backends("tensorflow")

SIZE = 24


def picture(seed=0):
    """Coloured, smooth and a little noisy, SIZE x SIZE."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
    smooth = np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC), "float32")
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype("uint8")


def cmyk():
    """With black of its own, which Pillow's own conversion leaves empty."""
    pixels = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 4), np.uint8)
    return Image.frombytes("CMYK", (SIZE, SIZE), pixels.tobytes())


def files():
    """{name: bytes} of every kind of file that a folder is searched for."""
    rgb = Image.fromarray(picture())
    levels = np.random.default_rng(2).integers(0, 65536, (SIZE, SIZE)).astype("uint16")
    grey16, palette = Image.fromarray(levels), rgb.quantize(50)
    transparent = rgb.convert("RGBA")
    transparent.putalpha(Image.fromarray(picture(3)[..., 0]))
    images = {
        "jpg": (rgb, {}),
        "low.jpg": (rgb, {"quality": 20}),
        "444.jpg": (rgb, {"subsampling": 0, "progressive": True}),
        "grey.jpg": (rgb.convert("L"), {}),
        "cmyk.jpg": (cmyk(), {}),
        "png": (rgb, {}),
        "one_bit.png": (rgb.convert("1"), {}),
        "grey.png": (rgb.convert("L"), {}),
        "grey_alpha.png": (transparent.convert("LA"), {}),
        "alpha.png": (transparent, {}),
        "palette.png": (palette, {}),
        "palette_alpha.png": (palette, {"transparency": 3}),
        "grey16.png": (grey16, {}),
        "bmp": (rgb, {}),
        "gif": (palette, {}),
        "two.gif": (palette, {"save_all": True, "append_images": [Image.new("RGB", rgb.size)]}),
        "webp": (rgb, {}),
        "alpha.webp": (transparent, {"lossless": True}),
        "avif": (rgb, {}),
        "tif": (rgb, {"compression": "tiff_lzw"}),
        "grey16.tif": (grey16, {}),
        "cmyk.tiff": (cmyk(), {}),
        "two.tif": (rgb, {"save_all": True, "append_images": [Image.new("RGB", rgb.size)]}),
    }
    for suffix in ("jpg", "png", "webp", "tif", "avif"):
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            images[f"turned{orientation}.{suffix}"] = rgb, {"exif": exif}
    found = {}
    for name, (image, options) in images.items():
        file = io.BytesIO()
        suffix = name.split(".")[-1]
        image.save(file, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix), **options)
        found[name] = file.getvalue()
    colours = tf.io.encode_png(np.repeat(levels[..., None], 3, -1) // np.array([1, 2, 3], "uint16"))
    found["colours16.png"] = colours.numpy()
    found["alpha16.png"] = tf.io.encode_png(np.stack([levels, levels // 2], -1)).numpy()
    return found


FILES = files()


@pytest.mark.parametrize("upright", [True, False])
def test_training_and_prediction_see_the_same_pixels(upright, tmp_path):
    """Through the whole pipeline of a folder, of pictures of the model's size."""
    (tmp_path / "things").mkdir()
    for name, contents in FILES.items():
        (tmp_path / "things" / f"a.{name}").write_bytes(contents)
    options = {"crop_fraction": 1.0, "test": 0.01, "validation": 0.01}
    if not upright:
        options["upright"] = False  # which is no default: neither there nor of `load_image`
    table = DataTable(f"folder:{tmp_path}", **options)
    train = data.encoded_source(table).read("")
    assert len(train.labels) == len(FILES)
    dataset = data.evaluation_dataset(
        train, 1, data.classified(evaluation_transform(table, (SIZE, SIZE, 3)), 1)
    )
    for index, (images, _) in enumerate(dataset.as_numpy_iterator()):
        name = train.images.name(index)
        expected = load_image(name) if upright else load_image(name, upright=False)
        np.testing.assert_array_equal(images[0], expected, err_msg=name)


def test_files_differ_by_how_they_lie():
    """What the test above compares is no sameness of everything."""
    for suffix in ("jpg", "png", "webp", "avif"):
        for upright, count in ((True, 8), (False, 1)):
            turned = {
                decode(FILES[f"turned{i}.{suffix}"], 3, upright=upright).numpy().tobytes()
                for i in range(1, 9)
            }
            assert len(turned) == count, suffix


def test_who_decodes():
    expected = {"jpg": JPEG, "grey.jpg": JPEG, "cmyk.jpg": OTHER, "turned1.jpg": JPEG, "png": PNG}
    expected |= {"turned3.jpg": OTHER, "turned3.png": OTHER, "grey16.png": PNG, "gif": OTHER}
    for name, who in expected.items():
        assert kind(FILES[name]) == who, name
    for name in ("turned3.jpg", "turned3.png"):
        assert kind(FILES[name], upright=False) == kind(FILES[name.replace("3", "1")], False)


def test_grey_is_the_grey_of_the_picture():
    grey = np.asarray(Image.fromarray(load_image(FILES["bmp"])).convert("L"))[..., None]
    for name in ("bmp", "png"):
        assert np.abs(decode(FILES[name], 1).numpy().astype(int) - grey).max() <= 1
    np.testing.assert_array_equal(
        decode(FILES["grey16.tif"], 1), load_image(FILES["grey16.tif"])[..., :1]
    )


def test_crops_are_those_of_the_picture_upright():
    """The window is drawn on the picture as it is seen, for each way that it may lie in a file."""
    for name in ("turned6.jpg", "turned2.png", "webp", "grey16.tif", "cmyk.jpg"):
        for key in range(3):
            options = (16, 12), 3, (0, key), (0.1, 0.9), (0.6, 1.8), "bicubic"
            of_file = crops.random_resized_crop(tf.constant(FILES[name]), *options)
            of_pixels = crops.random_resized_crop(tf.constant(load_image(FILES[name])), *options)
            np.testing.assert_array_equal(of_file, of_pixels, err_msg=name)


def test_the_option_reaches_training():
    from training.recipe.schema import AugmentTable

    contents = tf.constant(FILES["turned6.jpg"])
    for augment in (AugmentTable(), AugmentTable(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))):
        for upright in (True, False):
            table = DataTable("folder:x", crop_fraction=1.0, upright=upright)
            shown = training_transform(augment, table, (SIZE, SIZE, 3))(contents, (0, 1))
            expected = load_image(FILES["turned6.jpg"], upright)
            np.testing.assert_array_equal(shown, expected)


def test_strips_and_32_bits_are_left_out_with_a_reason(tmp_path):
    folder = tmp_path / "train" / "cat"
    folder.mkdir(parents=True)
    for number in range(8):
        (folder / f"{number}.png").write_bytes(FILES["png"])
    Image.new("L", (MAX_RATIO * 3 + 1, 3)).save(folder / "strip.png")
    Image.new("L", (1, 60000)).save(folder / "strip.jpg")
    Image.new("F", (SIZE, SIZE)).save(folder / "float.tif")
    (folder / "broken.avif").write_bytes(FILES["avif"][:-40])
    with pytest.raises(ValueError, match="data.max_corrupt=0, and .*broken.avif: A picture must"):
        data.load(DataTable(f"folder:{tmp_path}", validation=0.3), 1)
    splits = data.load(DataTable(f"folder:{tmp_path}", validation=0.3, max_corrupt=4), 1)
    reasons = {name.rpartition("/")[2]: reason for _, name, reason in splits.skipped}
    assert sorted(reasons) == ["broken.avif", "float.tif", "strip.jpg", "strip.png"]
    assert "of mode 'F'" in reasons["float.tif"]
    assert "60000 x 1 pixels" in reasons["strip.jpg"] and "3 x 601" in reasons["strip.png"]
    assert not any("Traceback" in reason for reason in reasons.values())
