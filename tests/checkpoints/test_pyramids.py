"""Pyramid Vision Transformers of timm, transformers and the authors: their numbers, both ways."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit

GOLDEN = Path(__file__).parent.parent / "golden" / "pyramids"
CASES = sorted(path.name for path in GOLDEN.iterdir())


def source(case):
    """The folder where a configuration says what the model is, else the file of weights."""
    if (GOLDEN / case / "config.json").is_file():
        return GOLDEN / case, {}
    (file,) = (GOLDEN / case).glob("*.pth")
    return file, {"num_heads": (1, 2, 2, 4)}  # which no tensor tells


def inputs(pixels):
    return (pixels / 127.5 - 1).astype("float32")


def outputs(model, images):
    """Every stage and the logits, in one run."""
    maps = model.pyramid_model().output
    whole = keras.Model(model.input, {**maps, "logits": model.output})
    return whole.predict(images, verbose=0)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_library_that_wrote_it(case):
    expected = np.load(GOLDEN / case / "expected.npz")
    file, arguments = source(case)
    model = keras_vit.from_pretrained(file, image_size=(64, 64), **arguments)
    assert not model.load_report.fresh and not model.load_report.dropped
    found = outputs(model, inputs(expected["pixels"]))
    for name in ("stage0", "stage1", "stage2", "stage3", "logits"):
        if name in expected:  # a backbone has no logits
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("case", ["authors_v1", "authors_v2", "timm_v2_linear"])
def test_another_size_at_call_time(case):
    expected = np.load(GOLDEN / case / "expected.npz")
    file, arguments = source(case)
    model = keras_vit.from_pretrained(file, image_size=None, **arguments)
    found = outputs(model, inputs(expected["other_pixels"]))
    np.testing.assert_allclose(found["stage3"], expected["other_stage3"], atol=1e-4)
    np.testing.assert_allclose(found["logits"], expected["other_logits"], atol=1e-4)


def test_positions_of_every_stage_are_resampled_as_the_authors_do():
    expected = np.load(GOLDEN / "authors_v1" / "expected.npz")
    images = inputs(expected["other_pixels"])
    file, arguments = source("authors_v1")
    model = keras_vit.from_pretrained(file, image_size=images.shape[1:3], **arguments)
    grids = [f"stage{s}_position_embedding/grid" for s in range(4)]
    assert model.load_report.resampled == grids
    assert [tuple(model.get_layer(grid[:-5]).grid.shape[:2]) for grid in grids] == [
        (8, 24),
        (4, 12),
        (2, 6),
        (1, 3),
    ]
    logits = model.predict(images, verbose=0)
    np.testing.assert_allclose(logits, expected["other_logits"], atol=1e-4)
