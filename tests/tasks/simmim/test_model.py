"""SimMIM as a Keras model: encoders of all families, masks, training, files, bad arguments."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.models import registry
from keras_vit.tasks.simmim import model as simmim_model
from keras_vit.tasks.simmim.masking import UnitMasking
from tests.helpers import images, once, once_but, randomize, run, tiny, tiny_vit, to_numpy
from tests.tasks.detr.helpers import tiny_detr
from tests.tasks.mae.helpers import tiny_mae


def tiny_simmim(family="vit", **arguments):
    """A SimMIM for images of 24 x 16 pixels, or 32 x 32 for Swin, with units of 8 pixels."""
    encoder = tiny(family, num_classes=None)
    return keras_vit.SimMIM(encoder, **{"mask_unit": 8, **arguments})


WITH_PATCHES = [name for name in registry.FAMILIES if name != "resnet"]


@pytest.mark.parametrize("family", once_but(WITH_PATCHES, "swin"))
def test_contract(family, tmp_path):
    model = tiny_simmim(family)
    randomize(model)
    height, width = model.input.shape[1:3]
    pixels = images((height, width))
    outputs = run(model, pixels)
    p, q = model.predicted_patch
    n = (height // p) * (width // q)
    assert outputs["patches"].shape == (3, n, p * q * 3) and outputs["mask"].shape == (3, n)
    units = (height // 8) * (width // 8)
    assert outputs["mask"].sum() == 3 * int(np.ceil(0.6 * units)) * n / units

    config = model.get_config()
    assert set(config) == set(inspect.signature(type(model)).parameters)
    assert type(model)(**config).get_config() == config

    # what is hidden is not seen, and what is seen counts
    noise = np.random.default_rng(0).random((3, units)).astype("float32")
    before = model.reconstruct(pixels, noise)
    hidden = np.repeat(np.repeat(before["mask"].reshape(3, height // p, -1), p, 1), q, 2)[..., None]
    other = np.where(hidden > 0, 9.0, pixels).astype("float32")
    after = model.reconstruct(other, noise)
    np.testing.assert_allclose(after["patches"], before["patches"], atol=1e-5)
    assert after["loss"] > before["loss"]
    shown = np.where(hidden > 0, pixels, 9.0).astype("float32")
    assert not np.allclose(model.reconstruct(shown, noise)["patches"], before["patches"], atol=1e-3)
    # the loss is the mean absolute difference of hidden pixels
    differences = np.abs(before["images"] - pixels)[hidden[..., 0] > 0]
    np.testing.assert_allclose(before["loss"], differences.mean(), rtol=1e-4)

    model.compile("adam", jit_compile=keras.backend.backend() == "jax")
    weights = {x.path: to_numpy(x) for x in model.trainable_weights}
    model.fit(pixels, verbose=0)
    same = [x.path for x in model.trainable_weights if (to_numpy(x) == weights[x.path]).all()]
    assert not [x for x in same if "key_norm/beta" not in x]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(theirs), to_numpy(ours), err_msg=ours.path)
    whole = keras_vit.from_pretrained(tmp_path / "model.keras")
    assert isinstance(whole, keras_vit.SimMIM)
    found = whole.reconstruct(pixels, noise)["patches"]
    np.testing.assert_allclose(found, model.reconstruct(pixels, noise)["patches"], atol=1e-5)
    encoder = keras_vit.from_pretrained(tmp_path / "model.keras", part="encoder")
    np.testing.assert_allclose(run(encoder, pixels), run(model.encoder, pixels), atol=1e-5)
    tuned = keras_vit.from_pretrained(tmp_path / "model.keras", num_classes=5)
    assert tuned.num_classes == 5 and "head" in " ".join(tuned.load_report.fresh)


@once
def test_a_network_without_patches_is_refused():
    with pytest.raises(ValueError, match="must embed patches and pool them"):
        tiny_simmim("resnet")


def test_units_are_hidden_as_a_whole():
    masking = UnitMasking(0.6, 8, seed=1)
    mask = to_numpy(masking(np.zeros((2, 24, 32, 3), "float32")))
    assert mask.shape == (2, 3, 4) and mask.sum() == 2 * 8
    noise = np.tile(np.arange(12, dtype="float32"), (2, 1))
    mask = to_numpy(masking(np.zeros((2, 24, 32, 3), "float32"), ops.convert_to_tensor(noise)))
    np.testing.assert_array_equal(mask.reshape(2, 12), (noise >= 4).astype("float32"))


@once
def test_the_token_comes_behind_swin_s_normalisation_as_in_the_authors_code():
    assert tiny_simmim("swin")._places.filled == "patch_norm"
    assert tiny_simmim("vit")._places.filled == "patch_embedding"
    assert keras_vit.SimMIM(tiny_vit(pre_norm=True), mask_unit=8)._places.filled != "pre_norm"


@once
def test_pixels_and_any_size(tmp_path):
    encoder = tiny_vit(num_classes=None, include_preprocessing=True, image_size=None)
    model = keras_vit.SimMIM(encoder, mask_unit=8)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 40, 3)).astype("float32")
    found = model.reconstruct(pixels)
    assert found["images"].shape == pixels.shape
    seen = np.repeat(np.repeat(found["mask"].reshape(2, 4, 5), 8, 1), 8, 2) == 0
    np.testing.assert_allclose(found["images"][seen], pixels[seen], atol=1e-3)
    with pytest.raises(ValueError, match="multiple|divide"):
        model.reconstruct(pixels[:, :, :36])


BAD = {
    "ratio 0": ({"mask_ratio": 0.0}, "mask_ratio must be a number above 0"),
    "ratio 1": ({"mask_ratio": 1}, "below 1"),
    "all units": ({"mask_ratio": 0.9}, "leave a unit"),
    "unit": ({"mask_unit": 12}, "multiple of the encoder's strides.*mask_unit=12|divide the image"),
    "large unit": ({"mask_unit": 32}, "divide the image"),
    "no unit": ({"mask_unit": 0}, "mask_unit must be"),
}


@once
@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=list(BAD))
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_simmim(**arguments)


@once
def test_an_encoder_without_patches_is_refused(monkeypatch):
    for encoder in (3, keras.Sequential([keras.Input((24, 16, 3)), keras.layers.Flatten()])):
        with pytest.raises(ValueError, match="model of keras_vit"):
            keras_vit.SimMIM(encoder)
    monkeypatch.setattr(simmim_model, "PATCHES", ())
    with pytest.raises(ValueError, match="must embed patches"):
        tiny_simmim()


@once
def test_the_model_of_another_task_is_no_encoder():
    for other in (tiny_mae(), tiny_detr()):
        for task in (keras_vit.SimMIM, keras_vit.SETR, keras_vit.MAE):
            with pytest.raises(ValueError, match=r"encoder must be a model of keras_vit"):
                task(other)
