"""`segment`: windows, whole pictures, scales and mirrored pictures."""

import io

import keras
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

import keras_vit
from keras_vit.tasks.setr import windows
from keras_vit.tasks.setr.segment import class_map
from tests.helpers import once, once_but, randomize, tiny_swin, tiny_vit
from tests.tasks.setr.helpers import golden, tiny_setr

PREPROCESSOR = keras_vit.Preprocessor((24, 16), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def model_of_pictures(decoder="naive", **arguments):
    encoder = tiny_vit(depth=2, preprocessor=PREPROCESSOR, **arguments)
    model = tiny_setr(decoder, encoder)
    randomize(model)
    return model


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype("uint8")


def inputs(pixels):
    mean, std = (np.array(x, "float32") for x in (PREPROCESSOR.mean, PREPROCESSOR.std))
    return (pixels.astype("float32") / 255 - mean) / std


@once
@pytest.mark.parametrize(
    ("side", "window", "stride", "expected"),
    [
        (480, 256, 170, [0, 170, 224]),  # measured with mmsegmentation's loop
        (360, 256, 170, [0, 104]),
        (256, 256, 170, [0]),
        (100, 256, 170, [0]),
        (257, 256, 256, [0, 1]),
        (512, 256, 256, [0, 256]),
    ],
)
def test_where_windows_start(side, window, stride, expected):
    assert windows.starts(side, window, stride) == expected


class Coordinates(keras.Model):
    """Says of every pixel its values, and where it is in its window."""

    def call(self, images):
        raise NotImplementedError

    def predict_on_batch(self, images):
        rows, columns = np.indices(images.shape[1:3], dtype="float32")
        place = np.broadcast_to(np.stack([rows, columns], -1), (*images.shape[:3], 2))
        return np.concatenate([images, place], axis=-1)


def loop(image, size, stride):
    """Mean of what `Coordinates` says of an image (H, W, 3), window by window."""
    height, width = image.shape[:2]
    h, w = size
    canvas = np.zeros((max(height, h), max(width, w), 3), "float32")
    canvas[:height, :width] = image
    total, count = np.zeros((*canvas.shape[:2], 5), "float32"), np.zeros(canvas.shape[:2])
    top = 0
    while True:
        y = max(min(top, canvas.shape[0] - h), 0)
        left = 0
        while True:
            x = max(min(left, canvas.shape[1] - w), 0)
            for i in range(h):
                for j in range(w):
                    total[y + i, x + j] += [*canvas[y + i, x + j], i, j]
                    count[y + i, x + j] += 1
            if x + w >= canvas.shape[1]:
                break
            left += stride[1]
        if y + h >= canvas.shape[0]:
            break
        top += stride[0]
    return (total / count[..., None].astype("float32"))[:height, :width]


@once
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("size", [(30, 37), (24, 16), (9, 40), (40, 9), (5, 5)])
def test_equals_a_plain_loop_exactly(size, flipped, monkeypatch):
    model = model_of_pictures()
    run = Coordinates()
    monkeypatch.setattr(model, "predict_on_batch", run.predict_on_batch)
    pixels = picture(*size)
    plan = model._plan("slide", (9, 7), None, (1,), flipped, 4)
    plan.model = run
    canvas = model._canvases(pixels, plan)[-1]
    assert canvas.flipped == flipped
    for place in canvas.places:
        model._run(plan, [(canvas, place)])
    image = inputs(pixels)
    expected = loop(image[:, ::-1] if flipped else image, (24, 16), (9, 7))
    np.testing.assert_array_equal(canvas.logits(), expected[:, ::-1] if flipped else expected)


def test_one_window_as_large_as_the_picture_is_the_whole():
    model, pixels = model_of_pictures("pup"), [picture(24, 16), picture(24, 16, 1)]
    slide = model.segment(pixels, probabilities=True)
    whole = model.segment(pixels, window="whole", probabilities=True)
    direct = keras.ops.softmax(model(inputs(np.stack(pixels))))
    for i in range(2):
        assert slide[i].shape == (24, 16, 5)
        np.testing.assert_allclose(slide[i], whole[i], atol=1e-5)
        np.testing.assert_allclose(slide[i], keras.ops.convert_to_numpy(direct)[i], atol=1e-5)


@pytest.mark.parametrize("make", once_but({"vit": tiny_vit, "swin": tiny_swin}, "vit"))
def test_a_whole_picture_of_another_size_is_padded_and_cropped(make):
    encoder = make(preprocessor=PREPROCESSOR)
    model = tiny_setr("naive", encoder)
    randomize(model)
    pixels = picture(35, 50)
    found = model.segment([pixels], window="whole", probabilities=True)[0]
    p, q = model.patch_size
    canvas = np.zeros((-(-35 // p) * p, -(-50 // q) * q, 3), "float32")
    canvas[:35, :50] = inputs(pixels)
    free = make(image_size=None, **({"position_grid": (3, 2)} if make is tiny_vit else {}))
    other = tiny_setr("naive", free)
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        theirs.assign(keras.ops.copy(ours))
    logits = other.predict(canvas[None], verbose=0)[0, :35, :50]
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@once
def test_segments_a_photograph_as_a_restatement_in_torch_does(tmp_path):
    """ImageNet's mean and deviation, logits resized before the argmax, positions resampled."""
    model, _ = golden("mmseg_pup")
    pixels = picture(23, 31)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (found,) = model.segment([tmp_path / "photo.png"])
    assert found.dtype == np.int32 and found.shape == (23, 31)

    x = torch.tensor(pixels.astype("float32").transpose(2, 0, 1))[None]
    assert model.get_config()["short_side"] == 16
    x = functional.interpolate(x, (16, int(31 * 16 / 23 + 0.5)), mode="bilinear")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x / 255 - mean[:, None, None]) / std[:, None, None]  # (1, 3, 16, 22)
    total, count = torch.zeros(1, 3, 16, 22), torch.zeros(1, 1, 16, 22)
    for left in (0, 6):  # windows of 16 with a stride of 10
        crop = x[..., left : left + 16].permute(0, 2, 3, 1).numpy()
        total[..., left : left + 16] += torch.tensor(model.predict_on_batch(crop)).permute(
            0, 3, 1, 2
        )
        count[..., left : left + 16] += 1
    logits = functional.interpolate(total / count, (23, 31), mode="bilinear")
    np.testing.assert_array_equal(found, logits.argmax(1)[0].numpy())


@once
def test_scales_and_mirrored_pictures_average_probabilities():
    model, pixels = model_of_pictures(), picture(30, 20)
    found = model.segment([pixels], scales=(0.5, 1.5), flip=True, probabilities=True)[0]
    expected = 0
    for scale in (0.5, 1.5):
        side = int(20 * scale)
        expected += model.segment([pixels], short_side=side, probabilities=True)[0]
        mirrored = model.segment([pixels[:, ::-1]], short_side=side, probabilities=True)[0]
        expected += mirrored[:, ::-1]
    np.testing.assert_allclose(found, expected / 4, atol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    classes = model.segment([pixels], scales=(0.5, 1.5), flip=True)[0]
    np.testing.assert_array_equal(classes, found.argmax(-1))


@once
def test_batches_do_not_change_the_result():
    model = model_of_pictures()
    pixels = [picture(30, 40), picture(24, 16, 1), picture(50, 17, 2)]
    one_by_one = [model.segment([x], batch_size=1, probabilities=True)[0] for x in pixels]
    for batch_size in (3, 64):
        found = model.segment(pixels, batch_size=batch_size, probabilities=True)
        for a, b in zip(found, one_by_one, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@once
def test_pixels_within_the_model_are_padded_with_the_mean():
    inside = model_of_pictures(include_preprocessing=True)
    outside = model_of_pictures()
    for ours, theirs in zip(inside.weights, outside.weights, strict=True):
        theirs.assign(ours)
    pixels = picture(11, 13)
    found, expected = (x.segment([pixels], probabilities=True)[0] for x in (inside, outside))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@once
def test_a_model_of_any_size_slides_windows_of_its_positions_or_of_another_size():
    free = model_of_pictures(image_size=None, position_grid=(3, 2))
    fixed = model_of_pictures()
    for ours, theirs in zip(free.weights, fixed.weights, strict=True):
        theirs.assign(ours)
    pixels = picture(30, 40)
    for window in ("slide", (16, 32), 8):
        found, expected = (
            x.segment([pixels], window=window, probabilities=True)[0] for x in (free, fixed)
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)


@once
def test_large_maps_are_resized_like_torch_does():
    logits = np.random.default_rng(0).normal(size=(13, 17, 4)).astype("float32")
    x = torch.tensor(logits.transpose(2, 0, 1))[None]
    for size in ((150, 33), (13, 40), (7, 5), (13, 17)):
        expected = functional.interpolate(x, size, mode="bilinear")[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(windows.resize(logits, size), expected, atol=1e-5)
        np.testing.assert_array_equal(class_map([logits], size), expected.argmax(-1))


@once
def test_every_kind_of_picture_is_taken_and_a_broken_one_is_named(tmp_path):
    model, pixels = model_of_pictures(), picture(20, 20)
    file, memory = tmp_path / "a.png", io.BytesIO()
    Image.fromarray(pixels).save(file)
    Image.fromarray(pixels).save(memory, "png")
    kinds = [file, str(file), memory.getvalue(), Image.fromarray(pixels), pixels]
    first, *others = model.segment(kinds)
    for other in others:
        np.testing.assert_array_equal(other, first)
    (tmp_path / "b.png").write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match="b.png"):
        model.segment([file, tmp_path / "b.png"])
    assert model.segment([]) == []


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 25}, r"stride must be at most the window.*stride=\(25, 25\)"),
        ({"stride": (24, 17)}, "stride must be at most the window"),
        ({"stride": 0}, "stride must be a positive integer"),
        ({"window": "all"}, "window must be 'slide', 'whole'"),
        ({"window": 20}, "window must be a multiple of patch_size"),
        ({"window": "whole", "stride": 8}, "stride applies to windows only"),
        ({"scales": ()}, "scales must be a sequence"),
        ({"scales": (0,)}, "scales must be a sequence"),
        ({"short_side": 0}, "short_side must be an integer"),
        ({"batch_size": 0}, "batch_size must be an integer"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        model_of_pictures().segment([picture(20, 20)], **arguments)


@once
def test_a_model_without_preprocessing_takes_no_pictures():
    with pytest.raises(ValueError, match="a model needs preprocessor="):
        tiny_setr().segment([picture(20, 20)])
    with pytest.raises(ValueError, match="images must be a list of pictures"):
        model_of_pictures().segment("photo.png")
    grey = tiny_setr("naive", tiny_vit(num_channels=1, preprocessor=PREPROCESSOR))
    with pytest.raises(ValueError, match="RGB"):
        grey.segment([picture(20, 20)])
