"""Runs that are killed again and again, at counted steps, end like one that never was: in all bits.

All settings take minutes on each backend:

    KERAS_BACKEND=jax python -m pytest tests/training/test_two_kills.py -m "slow or not slow"
"""

import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import backends, randomize, tiny_vit
from tests.training.kills import die, killing, prepare, state
from training.loop import fit, run
from training.results.folder import RunFolder

PLAN = ["train.epochs=2", "train.checkpoint_steps=1", "model.depth=1"]
SKIP = ["train.skip_nan=1"]
HALF, BRAIN = ["train.precision=mixed_float16"], ["train.precision=mixed_bfloat16"]
AVERAGE = ["optimizer.ema=0.9", "optimizer.layer_decay=0.8"]
LORA = ["finetune.source=source", "finetune.train=lora", "finetune.lora_rank=2"]
SETTINGS = {
    "float32": SKIP,
    "float16": HALF,
    "bfloat16": BRAIN,
    "lora": [*LORA, *HALF],
    "lora-average": [*LORA, *AVERAGE, *SKIP],
    "accumulation": ["optimizer.accumulate=2", *HALF],
    "average": [*AVERAGE, "optimizer.accumulate=2", *SKIP],
    "muon": ["optimizer.name=muon", *SKIP],
}
# Epoch from 0 and step from 1, after which the run dies; an epoch has five. Before any checkpoint,
# twice within an epoch, within the next one, and behind its last step, which no checkpoint has.
MOMENTS = [(0, 0), (0, 2), (0, 4), (1, 2), (1, 5)]
# A precision for each backend, so that by default each of both is tried; the slow tests try all.
ONE_EACH = [
    pytest.param("float16", marks=backends("torch")),
    pytest.param("bfloat16", marks=backends("tensorflow")),
    pytest.param("float32", marks=backends("jax")),
]


class Killed(BaseException):
    """What nothing catches; in a process of its own SIGKILL takes its place."""


def killed(overrides, epoch, step):
    """Trains until then; returns how many variables the optimizer had, if any yet."""

    def kill():
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        job = prepare("killed", overrides)
        patch.setattr(fit, "Checkpoint", killing(epoch, step, kill))
        run.fit(job)
    keras.utils.set_random_seed(99)  # nor does a new process know what was drawn before
    return len(job.model.optimizer.variables) if job.model.optimizer.built else None


def save_source():
    """A checkpoint that low-rank updates start from."""
    preprocessor = keras_vit.Preprocessor(8, "squash", 1.0, mean=(0.4,), std=(0.2,))
    shape = dict(num_classes=7, image_size=8, patch_size=4, num_channels=1, depth=1)
    model = tiny_vit(**shape, preprocessor=preprocessor)
    randomize(model)
    keras_vit.save_pretrained(model, "source", "timm")


def check(overrides, moments, kill=killed):
    if overrides[: len(LORA)] == LORA:
        save_source()
        overrides = [*overrides, "model.num_heads=2"]
    whole = prepare("whole", [*PLAN, *overrides])
    run.fit(whole)
    if hasattr(whole.model.optimizer, "dynamic_scale"):
        scale = float(whole.model.optimizer.dynamic_scale)
        assert scale != whole.model.optimizer.initial_scale  # else little was tried
    for epoch, step in moments:
        count = kill([*PLAN, *overrides], epoch, step)
        assert count in (None, len(whole.model.optimizer.variables))
    resumed = prepare("killed", [*PLAN, *overrides])
    run.fit(resumed)
    for (path, one), (_, other) in zip(state(whole), state(resumed), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=path)
    texts = [RunFolder(x).metrics.read_text() for x in ("whole", "killed")]
    assert texts[0] == texts[1]
    keras.models.load_model(RunFolder("killed").checkpoint)


@pytest.mark.parametrize("name", ONE_EACH)
def test_killed_in_two_epochs(small, name):
    check([*SETTINGS[name], "train.checkpoint_steps=3"], [(0, 3), (1, 3)])


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_killed_at_five_moments(small, name):
    check(SETTINGS[name], MOMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_killed_by_a_signal(small, name):
    check(SETTINGS[name], [(0, 3), (1, 3)], die)
