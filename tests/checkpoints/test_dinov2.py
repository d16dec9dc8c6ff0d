"""The authors' own files of DINOv2 give the numbers of their own code, at every size."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.checkpoints import everywhere
from tests.helpers import once_but, run

GOLDEN = Path(__file__).parent.parent / "golden" / "dinov2"
CASES = ("plain", "registers", "swiglu", "chunked")


def load(case, **arguments):
    return keras_vit.from_pretrained(
        GOLDEN / case / "model.pth", num_heads=2, preprocessor=None, **arguments
    )


def cases():
    for case in CASES:
        expected = dict(np.load(GOLDEN / case / "expected.npz"))
        for key in expected:
            if key.endswith("/pixels"):
                size = tuple(map(int, key.removesuffix("/pixels").split("x")))
                images = (expected[key] / 127.5 - 1).astype("float32")
                yield case, size, images, expected[key.replace("pixels", "output")]


RUNS = {f"{x[0]}-{x[1][0]}x{x[1][1]}": x for x in cases()}


@pytest.mark.parametrize(("case", "size", "images", "expected"), once_but(RUNS, *everywhere.DINOV2))
def test_equals_the_authors_code(case, size, images, expected):
    model = load(case, image_size=size)
    mode = "timm" if case == "registers" else "dinov2"  # with registers they antialias
    assert model.get_config()["position_resample"] == mode
    assert model.load_report.names == ("dinov2 with registers" if mode == "timm" else "dinov2")
    assert not model.load_report.fresh and list(model.load_report.dropped) == ["mask_token"]
    np.testing.assert_allclose(run(model, images), expected, atol=1e-4)


# With registers it is timm's way, which test_load.py has at call time too.
@pytest.mark.parametrize("case", once_but(["plain", "registers"], "plain"))
def test_any_size_at_call_time_and_in_saved_models(case, tmp_path):
    anysize = load(case, image_size=None)
    anysize.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    # Its own size comes last: by then TensorFlow has traced a function that knows no size.
    found = [x[1:] for x in cases() if x[0] == case]
    for size, images, expected in found[1:] + found[:1]:
        np.testing.assert_allclose(again.predict(images, verbose=0), expected, atol=1e-4)
        if size == (32, 48):
            resized = keras_vit.resize(load(case), size)
            np.testing.assert_allclose(run(resized, images), expected, atol=1e-4)
