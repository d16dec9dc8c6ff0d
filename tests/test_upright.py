"""An export that takes files turns them as `load_image` does, without Python."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_vit.export.upright import orientation, upright
from keras_vit.picture_files import load_image
from tests.helpers import backends

tf = pytest.importorskip("tensorflow")

pytestmark = backends("tensorflow")  # which does it whatever the backend is


def file(kind, number=None, endian="<"):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    options = {}
    if number is not None:
        options["exif"] = Image.Exif()
        options["exif"].endian = endian
        options["exif"].update({0x010F: "a camera", 0x0112: number, 0x0132: "2020:01:01"})
    contents = io.BytesIO()
    Image.fromarray(pixels).save(contents, kind, **options)
    return contents.getvalue()


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_every_orientation(kind):
    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def decoded(contents):
        if kind == "png":
            return upright(tf.io.decode_png(contents, 3), contents)
        pixels = tf.io.decode_jpeg(contents, 3, dct_method="INTEGER_ACCURATE")
        return upright(pixels, contents)

    for endian in ("<", ">"):
        for number in (*range(10), 258, 65535):  # 1 to 8 mean something
            contents = file(kind, number, endian)
            np.testing.assert_array_equal(decoded(contents), load_image(contents))
    np.testing.assert_array_equal(decoded(file(kind)), load_image(file(kind)))


def test_broken_notes_say_nothing():
    """And stop nobody: no length or place in them is believed."""
    found = tf.function(orientation, input_signature=[tf.TensorSpec((), tf.string)])
    for broken in (
        b"",
        b"Exif\0\0",
        b"eXIf",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*" * 9,
    ):
        assert found(broken) == 1
    rng = np.random.default_rng(0)
    whole = file("jpeg", 6)
    for _ in range(100):
        contents = bytearray(whole)
        for place in rng.integers(20, 90, 4):
            contents[place] = rng.integers(0, 256)
        assert 1 <= found(bytes(contents)) <= 8
