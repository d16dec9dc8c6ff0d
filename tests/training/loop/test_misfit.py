"""A checkpoint goes into the model and the optimizer that it was made of, or into none."""

import warnings
import zipfile

import keras
import numpy as np
import pytest

from tests.helpers import once, tiny_vit
from training.loop.checkpoint import Checkpoint
from training.loop.checkpoint_file import VARIABLES
from training.loop.restore import restore
from training.lora import enable_lora
from training.recipe.optimizers import optimizer

SCALED = {"skip_nonfinite": True}
# The names and shapes are the same with every backend.
pytestmark = once


def compiled(rank=0, depth=1, frozen=(), dtype=None, **arguments):
    """As `training.loop.build.build` makes it, with the optimizer's variables."""
    model = tiny_vit(depth=depth, dtype=dtype)
    if rank:
        enable_lora(model, rank)
    for name in frozen:
        model.get_layer(name).trainable = False
    model.compile(optimizer(model, 10, **arguments), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def save(model, folder):
    callback = Checkpoint(folder / "model.keras", folder / "best.keras")
    callback.set_model(model)
    callback.on_epoch_end(0, {})
    return folder / "model.keras"


def as_before(path):
    """The same checkpoint from before it named its variables."""
    old = path.with_name("old.keras")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(old, "w") as copy:
        for name in archive.namelist():
            if name != VARIABLES:
                copy.writestr(name, archive.read(name))
    return old


@pytest.mark.parametrize(
    ("saved", "other", "said"),
    [
        ({}, {"name": "sgd"}, r"kernel_velocity \(192, 16\).* only in the checkpoint"),
        ({}, {"accumulate": 2}, r"gradient_accumulator \(192, 16\).* only in the model"),
        ({"ema": 0.9}, {}, r"projection_kernel_average \(192, 16\).* only in the checkpoint"),
        (SCALED, {}, r"optimizer/dynamic_scale \(\) only in the checkpoint$"),
        ({}, {"dtype": "mixed_float16"}, r"optimizer/dynamic_scale \(\) only in the model$"),
        ({"rank": 2}, {"rank": 3}, r"qkv/lora_kernel_a \(16, 2\).* more only in the checkpoint"),
        ({"rank": 2}, {}, "lora_kernel_a"),
        ({"frozen": ["block00"]}, {}, "block00_norm1_gamma_momentum .* only in the model"),
        ({"depth": 2}, {}, "block01/norm1/gamma .* only in the checkpoint"),
    ],
)
def test_what_does_not_fit_is_an_error(saved, other, said, tmp_path):
    path = save(compiled(**saved), tmp_path)
    model = compiled(**other)
    with pytest.raises(ValueError, match=f"--new. Received: .*model.keras: .*{said}"):
        restore(model, path)
    with pytest.raises(ValueError, match="--new. Received: .*old.keras: "):
        restore(model, as_before(path))


def test_the_same_shapes_elsewhere_are_an_error(tmp_path):
    path = save(compiled(depth=2, frozen=["block00"]), tmp_path)
    with pytest.raises(ValueError, match="block01_norm1_gamma_momentum .* only in the checkpoint"):
        restore(compiled(depth=2, frozen=["block01"]), path)


@pytest.mark.parametrize("arguments", [SCALED, {"dtype": "mixed_float16"}, {"accumulate": 2}])
def test_restoring_again_changes_nothing(arguments, tmp_path):
    model = compiled(**arguments)
    for i, variable in enumerate(model.optimizer.variables):
        variable.assign(np.full(variable.shape, i + 1))
    path = save(model, tmp_path)
    restored = compiled(**arguments)
    for _ in range(2):
        restore(restored, path)
        found = [keras.ops.convert_to_numpy(v).mean() for v in restored.optimizer.variables]
        expected = np.arange(len(model.optimizer.variables)) + 1
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("arguments", [{}, {"layer_decay": 0.8}, SCALED])
def test_a_file_with_low_rank_updates_loads_without_a_warning(arguments, tmp_path):
    model = compiled(rank=2, **arguments)
    path = save(model, tmp_path)
    assert model.compiled
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Skipping variable loading")
        loaded = keras.models.load_model(path)
    assert not loaded.compiled
    assert restore(compiled(rank=2, **arguments), path)["epochs"] == 1


def test_a_loss_scale_that_was_built_again_is_read(tmp_path):
    """Earlier versions did so at every resume within an epoch; the newest one counted."""
    model = compiled(dtype="mixed_float16")
    for i in range(2):
        model.optimizer.build(model.trainable_variables)
        model.optimizer.dynamic_scale.assign(64.0 + i)
        model.optimizer.step_counter.assign(7 + i)
    for variable in model.optimizer.inner_optimizer.variables:
        variable.assign(np.full(variable.shape, 5))
    path = as_before(save(model, tmp_path))
    restored = compiled(dtype="mixed_float16")
    restore(restored, path)
    assert float(restored.optimizer.dynamic_scale) == 65.0
    assert int(restored.optimizer.step_counter) == 8
    for variable in restored.optimizer.inner_optimizer.variables:
        assert np.all(keras.ops.convert_to_numpy(variable) == 5)
