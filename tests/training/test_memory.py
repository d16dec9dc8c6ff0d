"""Running out of memory says what would fit."""

import keras
import pytest

import keras_vit
from tests.helpers import tiny_vit
from training import memory, run
from training.__main__ import main


def test_what_backends_say_is_understood():
    class OutOfMemoryError(RuntimeError):
        pass

    class ResourceExhaustedError(Exception):
        pass

    assert memory.is_out_of_memory(MemoryError())
    assert memory.is_out_of_memory(OutOfMemoryError("CUDA"))
    assert memory.is_out_of_memory(ResourceExhaustedError())
    assert memory.is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"))
    assert not memory.is_out_of_memory(ValueError("image_size"))


def test_needs_grow_with_the_batch_and_shrink_by_what_saves(no_initialization):
    model = keras_vit.ViTBase()
    cost = keras_vit.complexity(model)
    one, two = (memory.needs(model, size) for size in (1, 2))
    scores = 0 if keras.backend.backend() == "torch" else cost.scores_bytes
    assert two - one == cost.activation_bytes + scores
    assert 2 * one - two == 16 * model.count_params()
    halves = memory.needs(model, 64, bfloat16=True)
    remat = memory.needs(model, 64, remat=True)
    both = memory.needs(model, 64, bfloat16=True, remat=True)
    assert both < remat < halves < memory.needs(model, 64)


def test_advice_fits_the_device(no_initialization):
    model = tiny_vit(width=64, mlp_dim=256)
    available = memory.needs(model, 100)
    text = memory.advice(model, 400, available)
    assert "train.batch_size=100 about" in text  # 200 would not do
    assert "model.remat=true and train.batch_size=" in text
    assert "of 0.0 GiB" in text and memory.advice(model, 1).count("GiB") >= 5


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 3 GiB")])
def test_a_run_that_needs_too_much_ends_with_advice(error, small, capsys, monkeypatch):
    def fit(job):
        raise error

    monkeypatch.setattr(run, "fit", fit)
    assert main([small, "--run-dir", "run"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: There was not enough memory. A step of 256 images needs about")
    assert len(said.strip().splitlines()) == 1


def test_other_errors_are_not_hidden(small, monkeypatch):
    def fit(job):
        raise RuntimeError("something else")

    monkeypatch.setattr(run, "fit", fit)
    with pytest.raises(RuntimeError, match="something else"):
        main([small, "--run-dir", "run"])
