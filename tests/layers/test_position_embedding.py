from pathlib import Path

import keras
import numpy as np
import pytest

from keras_vit.layers import (
    AddPositionEmbedding,
    ClassificationHead,
    ClassToken,
    PatchEmbedding,
    TokenPooling,
    TransformerBlock,
    resample_grid,
    sincos_grid,
)
from tests.helpers import images, randomize, run, to_numpy

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "resample.npz")
GRIDS = [key.removeprefix("grid/") for key in GOLDEN if key.startswith("grid/")]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("mode", ["timm", "hf", "flax", "bilinear"])
def test_resampling_equals_its_source(mode, grid):
    """PyTorch's interpolate, bicubic with and without antialias and bilinear, and SciPy's zoom."""
    expected = GOLDEN[f"{mode}/{grid}"]
    resampled = to_numpy(resample_grid(GOLDEN[f"grid/{grid}"], expected.shape[:2], mode))
    np.testing.assert_allclose(resampled, expected, atol=2e-5)


@pytest.mark.parametrize("mode", ["timm", "hf", "flax", "bilinear", "dinov2", "torchvision"])
def test_resampling(mode, rng):
    grid = rng.normal(size=(6, 4, 3)).astype("float32")
    np.testing.assert_array_equal(to_numpy(resample_grid(grid, (6, 4), mode)), grid)
    # Constants stay constants, and the axes do not mix.
    ones = to_numpy(resample_grid(np.ones((6, 4, 1)), (9, 2), mode))
    np.testing.assert_allclose(ones, 1, atol=1e-6)
    columns = np.broadcast_to(np.arange(4.0)[None, :, None], (6, 4, 1))
    resampled = to_numpy(resample_grid(columns, (9, 7), mode))
    np.testing.assert_allclose(
        resampled, np.broadcast_to(resampled[:1], resampled.shape), atol=1e-5
    )
    assert (np.diff(resampled[0, :, 0]) > -1e-2).all()


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="asks PyTorch itself")
@pytest.mark.parametrize("size", [(6, 9), (9, 4), (13, 17), (2, 3), (4, 6)])
def test_dinov2_s_scale_factor(size, rng):
    """A side that stays as long is moved too, unless both do (tests/golden/make_dinov2.py)."""
    import torch

    grid = rng.normal(size=(6, 4, 3)).astype("float32")
    expected = torch.nn.functional.interpolate(
        torch.tensor(grid.transpose(2, 0, 1)[None]),
        scale_factor=[(new + 0.1) / old for new, old in zip(size, (6, 4), strict=True)],
        mode="bicubic",
    )
    ours = to_numpy(resample_grid(grid, size, "dinov2"))
    np.testing.assert_allclose(ours, expected[0].numpy().transpose(1, 2, 0), atol=2e-5)
    assert np.abs(ours - to_numpy(resample_grid(grid, size, "hf"))).max() > 1e-3


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="asks PyTorch itself")
@pytest.mark.parametrize("size", [(6, 9), (9, 4), (13, 17), (2, 3), (1, 5)])
def test_torchvision_s_aligned_corners(size, rng):
    import torch

    grid = rng.normal(size=(6, 4, 3)).astype("float32")
    expected = torch.nn.functional.interpolate(
        torch.tensor(grid.transpose(2, 0, 1)[None]), size, mode="bicubic", align_corners=True
    )
    ours = to_numpy(resample_grid(grid, size, "torchvision"))
    np.testing.assert_allclose(ours, expected[0].numpy().transpose(1, 2, 0), atol=2e-5)


@pytest.mark.parametrize("mode", ["timm", "hf", "flax", "bilinear", "dinov2", "torchvision"])
def test_a_size_known_only_at_call_time_gives_the_same(mode, rng):
    layer = AddPositionEmbedding((6, 4), patch_size=2, num_prefix_tokens=1, resample=mode)
    images = keras.Input((None, None, 1))
    tokens = keras.Input((None, 8))
    model = keras.Model([tokens, images], layer(tokens, images))
    for h, w in [(6, 4), (3, 9), (12, 5)]:
        zeros = [np.zeros((1, 1 + h * w, 8), "float32"), np.zeros((1, 2 * h, 2 * w, 1), "float32")]
        positions = model.predict(zeros, verbose=0)[0]
        expected = to_numpy(resample_grid(layer.grid, (h, w), mode)).reshape(h * w, 8)
        np.testing.assert_allclose(positions[1:], expected, atol=2e-6)
        np.testing.assert_allclose(positions[:1], to_numpy(layer.prefix), atol=1e-7)


def test_prefix_tokens_without_positions_are_left_alone(rng):
    tokens = rng.normal(size=(2, 3 + 6, 8)).astype("float32")
    images = np.zeros((2, 6, 4, 1), "float32")
    layer = AddPositionEmbedding((3, 2), 2, num_prefix_tokens=3, prefix_positions=False)
    added = to_numpy(layer(tokens, images)) - tokens
    assert np.abs(added[:, :3]).max() == 0
    assert np.abs(added[:, 3:]).min() > 0
    assert layer.count_params() == 6 * 8


def test_resampling_keeps_float32_under_mixed_precision(rng):
    layer = AddPositionEmbedding((4, 4), 2, dtype="mixed_bfloat16")
    tokens, images = np.zeros((1, 36, 8), "float32"), np.zeros((1, 12, 12, 1), "float32")
    added = to_numpy(layer(tokens, images))
    exact = to_numpy(resample_grid(layer.grid, (6, 6), "timm")).reshape(1, 36, 8)
    # Rounded once, at the end: half a unit in the last of bfloat16's 8 bits.
    np.testing.assert_allclose(added, exact, rtol=2**-8, atol=1e-9)


def test_sincos():
    grid = to_numpy(sincos_grid((3, 5), 16))
    assert grid.shape == (3, 5, 16)
    np.testing.assert_allclose(grid[..., :4] ** 2 + grid[..., 4:8] ** 2, 1, atol=1e-6)
    # The first half knows the column, the second the row.
    np.testing.assert_allclose(grid[0, :, :8], grid[2, :, :8], atol=1e-6)
    np.testing.assert_allclose(grid[:, 0, 8:], grid[:, 4, 8:], atol=1e-6)
    np.testing.assert_allclose(grid[0, 3, :8:4], [np.sin(3.0), np.cos(3.0)], atol=1e-6)
    np.testing.assert_allclose(grid[2, 0, 8::4], [np.sin(2.0), np.cos(2.0)], atol=1e-6)
    assert len({tuple(place) for place in grid.reshape(15, 16).round(4).tolist()}) == 15


@pytest.mark.parametrize("kind", ["learned", "sincos"])
def test_without_images_the_grid_is_its_own(kind, tmp_path, rng):
    """So it stacks in a `keras.Sequential`, which is saved and loaded."""
    arguments = {"kind": kind, "num_prefix_tokens": 1}
    model = keras.Sequential(
        [
            keras.Input((24, 16, 3)),
            PatchEmbedding(16, 8),
            ClassToken(),
            AddPositionEmbedding((3, 2), 8, **arguments),
            TransformerBlock(2, 32),
            TokenPooling("token", 1),
            ClassificationHead(4),
        ]
    )
    randomize(model)
    pixels = images()
    positions = model.layers[2]
    tokens = rng.normal(size=(2, 7, 16)).astype("float32")
    expected = to_numpy(positions(tokens, np.zeros((2, 24, 16, 3))))
    np.testing.assert_array_equal(to_numpy(positions(tokens)), expected)
    assert np.abs(expected - tokens).max() > 0.1

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(run(loaded, pixels), run(model, pixels), atol=1e-6)
    for n in (1, 5, 6, 8):
        with pytest.raises(ValueError, match=r"1 \+ 3 x 2 = 7 tokens.* Received: .* tokens"):
            positions(tokens[:, :1].repeat(n, axis=1))
