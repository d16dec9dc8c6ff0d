"""What a file, a PIL image or an array is as RGB bytes, and what is refused with a reason."""

import io
import os
import socket
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from keras_vit.picture_files import MAX_RATIO, ahead, load_image
from tests.helpers import once

pytestmark = once  # no backend has a part in it

LEVELS = np.arange(65536, dtype="uint16").reshape(256, 256)
MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB"]
MODES += ["HSV", "I;16", "I;16B", "I;16L", "I;16N"]


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width, height):
    """The first bytes of a PNG that promises so many pixels and holds none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + checked + struct.pack(">I", 8) + b"IDAT"


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bits_are_scaled_by_their_range(kind, dtype):
    """A ramp over the whole range has 256 levels, each 256 values of the file wide."""
    image = Image.fromarray(LEVELS.astype(dtype))
    expected = np.stack([LEVELS >> 8] * 3, -1)
    np.testing.assert_array_equal(load_image(image), expected)
    if (kind, dtype) not in (("png", ">u2"), ("ppm", ">u2")):  # which Pillow does not write
        np.testing.assert_array_equal(load_image(encoded(image, kind)), expected)


def test_16_bits_of_a_tiff_whose_0_is_white():
    inverted = encoded(Image.fromarray(LEVELS), "tiff", tiffinfo={262: 0})
    np.testing.assert_array_equal(load_image(inverted)[..., 0], 255 - (LEVELS >> 8))


def test_32_bits_are_refused():
    ramp = np.linspace(0, 1, 256, dtype="float32").reshape(16, 16)
    for pixels in (ramp, 1000 * ramp, (1e9 * ramp).astype("int32")):
        image = Image.fromarray(pixels)
        for source in (image, encoded(image, "tiff")):
            with pytest.raises(ValueError, match="8 or 16 bits.*Received: .*mode '[FI]'"):
                load_image(source)
    with pytest.raises(ValueError, match="8 or 16 bits.*mode 'F'"):
        load_image(b"Pf\n16 16\n-1.0\n" + ramp.tobytes())  # a portable float map


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pil_becomes_rgb(mode):
    """Neither black nor two-valued: a white field stays brighter than a black one."""
    white, black = (
        load_image(_of_mode(np.full((5, 4), value, "uint8"), mode)) for value in (255, 0)
    )
    assert white.shape == black.shape == (5, 4, 3) and white.dtype == np.uint8
    assert white.min() > 250 and black.max() < 5


def _of_mode(grey, mode):
    if mode.startswith("I"):
        little = Image.fromarray(grey.astype("uint16") * 257)
        order = ">" if mode == "I;16B" else "<"
        return Image.frombytes(mode, little.size, np.asarray(little).astype(f"{order}u2").tobytes())
    rgb = Image.fromarray(grey).convert("RGB")
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")
    return rgb.convert({"La": "LA", "RGBa": "RGBA", "PA": "LA"}.get(mode, mode)).convert(mode)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif", "tiff"])
def test_every_orientation_is_applied_or_left(kind):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8))
    options = {"lossless": True} if kind == "webp" else {}
    for orientation in range(10):  # two of which mean nothing
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = encoded(image, kind, exif=exif, **options)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
        np.testing.assert_array_equal(load_image(file), np.asarray(upright))
        assert load_image(file).shape[0] == (24 if 5 <= orientation <= 8 else 16)
        if kind != "tiff":
            as_stored = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
            np.testing.assert_array_equal(load_image(file, upright=False), as_stored)


@pytest.mark.filterwarnings("ignore")  # Pillow's word for what is broken
def test_a_broken_note_of_the_orientation_costs_no_picture():
    image = Image.new("RGB", (6, 4), "red")
    file = encoded(image, "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\1" * 9)
    assert load_image(file).shape == (4, 6, 3)


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff", "avif"])
def test_the_first_of_several_frames_or_pages(kind):
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "blue")]
    file = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(load_image(file).astype(int) - (255, 0, 0)).max() < 10


@pytest.mark.parametrize("height, width", [(1, MAX_RATIO + 1), (3 * MAX_RATIO + 1, 3), (1, 10**6)])
def test_strips_are_refused_before_they_are_decoded(height, width):
    pixels = np.zeros((height, width, 3), "uint8")
    message = f"{MAX_RATIO} times the shorter.*Received: .*{height} x {width} pixels"
    for source in (png_header(width, height), pixels, Image.fromarray(pixels)):
        with pytest.raises(ValueError, match=message):
            load_image(source)


def test_panoramas_are_read():
    for shape in ((1, MAX_RATIO), (20, 1000), (MAX_RATIO, 1)):
        assert load_image(Image.new("L", shape[::-1])).shape == (*shape, 3)
        assert load_image(np.zeros(shape)).shape == (*shape, 3)


def test_pictures_without_pixels_are_refused():
    with pytest.raises(ValueError, match="Received: .*0 x 5 pixels"):
        load_image(Image.new("RGB", (5, 0)))
    with pytest.raises(ValueError, match="Received: .*0 x 5 pixels|UnidentifiedImageError"):
        load_image(png_header(5, 0))


def test_floats_of_0_to_1_are_refused_and_masks_are_not():
    for low in (np.float16, np.float32, np.float64):
        with pytest.raises(ValueError, match="multiply by 255. Received: fractions from 0.0 to 0."):
            load_image(np.linspace(0, 0.99, 48).reshape(4, 4, 3).astype(low))
    with pytest.raises(ValueError, match="multiply by 255"):
        load_image(np.array([[0.5, 1.0]]))
    for same in (np.zeros((2, 2)), np.eye(2), np.eye(2) > 0, np.array([[0.25, 1.5]])):
        expected = np.floor(same.astype(float) + 0.5)
        np.testing.assert_array_equal(load_image(same)[..., 0], expected)


def test_what_are_no_pixels_of_0_to_255():
    for wrong in (np.array([[256]], "uint16"), np.array([[-1.0]]), np.array([[np.inf]])):
        with pytest.raises(ValueError, match="Pixels must be 0..255. Received: "):
            load_image(wrong)
    for wrong in (np.array([["a"]]), np.array([[None]]), np.array([[1j]])):
        with pytest.raises(ValueError, match="must be numbers 0..255. Received: dtype="):
            load_image(wrong)


def test_what_is_no_regular_file_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.jpg"))
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "empty.jpg").touch()
    for name in sorted(os.listdir(tmp_path)):
        with pytest.raises(ValueError, match=f"Received: .*{name}"):
            load_image(tmp_path / name)
    for name in ("/dev/zero", "/dev/stdout/none", "a\0b.jpg", "x" * 5000):
        with pytest.raises(ValueError, match="Received: "):
            load_image(name)


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, struct.error, zlib.error, KeyError])
def test_whatever_a_decoder_raises_is_a_value_error(error, monkeypatch):
    def broken(self):
        raise error("from within")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", broken)
    with pytest.raises(ValueError, match=f"Received: a file of .*{error.__name__}: .*from within"):
        load_image(encoded(Image.new("RGB", (3, 3)), "png"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trials", [60, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["avif", "bmp", "gif", "jpeg", "png", "tiff", "webp"])
def test_broken_files_of_every_kind(kind, trials):
    """Cut off or with other bytes: a ValueError or pixels, and nothing else.

    The whole attack: `pytest -m slow tests/test_picture_files.py -k broken`.
    """
    rng = np.random.default_rng(0)
    whole = encoded(Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)), kind)
    raised = 0
    for trial in range(trials):
        broken = bytearray(whole[: rng.integers(0, len(whole))] if trial % 2 else whole)
        for place in rng.integers(0, max(len(broken), 1), trial % 7 * (len(broken) > 0)):
            broken[place] = rng.integers(0, 256)
        try:
            assert load_image(bytes(broken)).shape[2] == 3
        except ValueError as error:
            assert f"a file of {len(broken)} bytes" in str(error)
            raised += 1
    assert raised >= trials / 4


def test_pictures_are_loaded_a_batch_ahead():
    started, lock = [], threading.Lock()

    def load(source):
        with lock:
            started.append(source)
        if source == 5:
            raise ValueError("broken")
        return 10 * source

    batches = ahead(load, list(range(10)), batch_size=2)
    found = []
    for batch, loading in batches:
        found.append(batch)
        for source, future in zip(batch, loading, strict=True):
            if source == 5:
                with pytest.raises(ValueError, match="broken"):
                    future.result()
            else:
                assert future.result() == 10 * source
        assert max(started) <= 2 * len(found) + 1  # the next batch, and none after it
    assert found == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]] and sorted(started) == list(range(10))


def test_what_nobody_asks_for_is_not_loaded():
    started = []
    batches = ahead(started.append, list(range(100)), batch_size=2)
    next(batches)
    batches.close()
    assert len(started) <= 4
