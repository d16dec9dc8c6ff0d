"""A real ImageNet model on real photos: the numbers that timm gives, and the right words."""

from pathlib import Path

import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints.catalog import imagenet_names
from tests.helpers import once, run, to_numpy

DATA = Path(__file__).parents[3] / "shared" / "data" / "vit_tiny_imagenet"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no weights in {DATA}")


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(DATA / "reference.npz"))


@pytest.fixture(scope="module")
def model():
    return keras_vit.from_pretrained(DATA / "model.safetensors")


def normalized(reference):
    return (reference["images"].astype("float32") / 255 - 0.5) / 0.5


def test_logits_are_timm_s(model, reference):
    assert model.count_params() == 5_717_416
    assert not model.load_report.fresh and not model.load_report.dropped
    logits = model.predict(normalized(reference), verbose=0)
    np.testing.assert_allclose(logits, reference["logits"], atol=1e-4)
    top5 = [np.argsort(-x, axis=1)[:, :5] for x in (logits, reference["logits"])]
    np.testing.assert_array_equal(*top5)


@once
def test_most_photos_get_their_word(reference):
    """The photos' file names end in their classes."""
    half = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    preprocessor = keras_vit.Preprocessor(224, crop_fraction=1.0, **half)
    model = keras_vit.from_pretrained(
        DATA / "model.safetensors", preprocessor=preprocessor, class_names=imagenet_names()
    )
    found = model.predict_images(list(reference["images"]), top=5)
    right = 0
    for best, name in zip(found, reference["names"], strict=True):
        word = str(name).partition("_")[2].rpartition(".")[0].replace("_", " ").lower()
        right += any(word in label.lower() for label, _ in best)
    assert right >= 20


@once
@pytest.mark.parametrize("format", ["hf", "timm", "keras"])
def test_every_format_gives_it_back(format, model, reference, tmp_path):
    folder = keras_vit.save_pretrained(model, tmp_path / format, format)
    again = keras_vit.from_pretrained(folder)
    for ours, theirs in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs), err_msg=ours.path)
    pixels = normalized(reference)[:4]
    np.testing.assert_allclose(run(again, pixels), reference["logits"][:4], atol=1e-4)


@once
@pytest.mark.parametrize("size", [160, (320, 192)])
def test_other_sizes_keep_most_answers(size, reference):
    """Resampled positions stay meaningful; that they are timm's is `test_parity`'s to say."""
    import keras

    model = keras_vit.from_pretrained(DATA / "model.safetensors", image_size=size)
    shape = model.input.shape[1:3]
    images = to_numpy(keras.ops.image.resize(normalized(reference), shape, antialias=True))
    logits = model.predict(images, verbose=0)
    agreement = np.mean(logits.argmax(1) == reference["logits"].argmax(1))
    assert agreement >= 0.7
