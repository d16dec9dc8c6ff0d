"""Running out of memory says what would fit."""

import dataclasses
import errno
import os

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from tests.helpers import tiny_vit
from training.__main__ import main
from training.devices import memory
from training.loop import run
from training.tasks import TASKS


def test_what_backends_say_is_understood():
    class OutOfMemoryError(RuntimeError):
        pass

    class ResourceExhaustedError(Exception):
        pass

    assert memory.is_out_of_memory(MemoryError())
    assert memory.is_out_of_memory(OutOfMemoryError("CUDA"))
    assert memory.is_out_of_memory(ResourceExhaustedError())
    assert memory.is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"))
    for said in (
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 4503599627370496 bytes. Error code 12 (Cannot allocate memory)",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 4503599627370496 bytes.",
        "std::bad_alloc",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ):
        assert memory.is_out_of_memory(RuntimeError(said))
    assert memory.is_out_of_memory(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
    for other in (ValueError("image_size"), OSError(errno.ENOSPC, "No space left on device")):
        assert not memory.is_out_of_memory(other)


def more_than_there_is(*_):
    """A real allocation of a petabyte."""
    return np.asarray(ops.zeros((2**50,), "uint8"))


def test_what_this_backend_says_is_understood():
    for allocate in (more_than_there_is, lambda: np.zeros(2**50)):
        with pytest.raises(Exception) as error:  # noqa: B017, of any kind
            allocate()
        assert memory.is_out_of_memory(error.value)


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


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: 3 GiB"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        None,  # the backend's own
    ],
)
def test_a_run_that_needs_too_much_ends_with_advice(error, small, capsys, monkeypatch):
    def fit(job):
        more_than_there_is()
        raise AssertionError

    def fail(job):
        raise error

    monkeypatch.setattr(run, "fit", fail if error else fit)
    assert main([small, "--run-dir", "run"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: There was not enough memory. A step of 256 images needs about")
    assert len(said.strip().splitlines()) == 1


def test_data_that_need_too_much_are_said(small, capsys, monkeypatch):
    needs_more = dataclasses.replace(TASKS["classification"], load=more_than_there_is)
    monkeypatch.setitem(TASKS, "classification", needs_more)
    assert main([small, "--run-dir", "run"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "error: There was not enough memory. The run ended before its first step"
    )
    assert len(said.strip().splitlines()) == 1


def test_other_errors_are_not_hidden(small, monkeypatch):
    def fit(job):
        raise RuntimeError("something else")

    monkeypatch.setattr(run, "fit", fit)
    with pytest.raises(RuntimeError, match="something else"):
        main([small, "--run-dir", "run"])
