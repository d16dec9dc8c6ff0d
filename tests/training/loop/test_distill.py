"""Runs with a teacher, and runs of every family of models."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models import registry
from tests.helpers import once, to_numpy
from tests.training.helpers import AskedToStop, check_resumed
from training import recipe
from training.cnn import SmallCNN
from training.devices.distribute import Devices
from training.devices.process_group import ProcessGroup
from training.loop import finish, fit, run
from training.loop.stopping import Stopped
from training.recipe.smoke import overrides, shape_of

# The same on every backend, and one compiles nothing.
pytestmark = once

FAMILIES = [*dict.fromkeys(x.model for x in registry.FAMILIES.values()), SmallCNN]
TEACHER = dict(widths=(4,), image_size=8, num_channels=1, include_preprocessing=True)


@pytest.fixture
def distilled(small):
    """The small recipe with a teacher, whose weights are random, and an average."""
    SmallCNN(**TEACHER).save("teacher.keras")
    table = """
[distill]
teacher = "teacher.keras"
kind = "soft"
"""
    with open(small, "a") as file:
        file.write(table)
    return small


SETTINGS = ["model.distillation_token=true", "model.depth=1", "optimizer.ema=0.9"]


def test_a_distilled_run_goes_on_within_an_epoch(distilled, monkeypatch):
    whole = run.prepare(distilled, SETTINGS, "whole")
    teacher = whole.fitted.teacher
    before = [to_numpy(weight) for weight in teacher.weights]
    run.fit(whole)
    for old, weight in zip(before, teacher.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), old)
    with monkeypatch.context() as patch:
        patch.setattr(fit, "Checkpoint", AskedToStop)
        with pytest.raises(Stopped):
            run.fit(run.prepare(distilled, SETTINGS, "stopped"))
    check_resumed(whole, "stopped", {"epochs": 1, "step": 3})
    saved = keras.models.load_model(whole.folder.checkpoint)
    assert type(saved) is keras_vit.VisionTransformer
    assert len(saved.weights) == len(whole.model.weights)


def test_low_rank_updates_of_a_student_are_saved_without_its_teacher(distilled):
    keras_vit.VisionTransformer(
        **{**shape_of(keras_vit.VisionTransformer), "patch_size": 4},
        num_channels=1,
        image_size=8,
        num_classes=10,
    ).save("source.keras")
    plan = ["model.width=32", "model.mlp_dim=64", "finetune.source=source.keras"]
    plan += ["finetune.train=lora", "train.epochs=1", "distill.kind=hard"]
    job = run.prepare(distilled, plan, "run")
    run.fit(job)
    again = run.prepare(distilled, ["train.epochs=2"], "run", resume=True)
    for one, other in zip(job.model.weights, again.model.weights, strict=True):
        np.testing.assert_allclose(to_numpy(one), to_numpy(other), atol=1e-6, err_msg=one.path)


def test_a_teacher_of_other_classes_or_none_is_refused(distilled):
    for teacher, message in [
        ("other.keras", "distill.teacher cannot teach: .*same classes.*with 7"),
        ("nowhere.keras", "distill.teacher cannot teach"),
    ]:
        SmallCNN(**TEACHER, num_classes=7).save("other.keras")
        with pytest.raises(ValueError, match=message):
            run.prepare(distilled, [f"distill.teacher={teacher}"], "run")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_family_is_trained_and_reported(family, small, tmp_path):
    """From the recipe to the pictures; what a run writes last is tested once for all."""
    model = {**shape_of(family), "image_size": 8, "num_channels": 1, "num_classes": 10}
    table = "\n".join(f"{key} = {value}" for key, value in model.items())
    text = (tmp_path / small).read_text()
    text = f'[model]\nvariant = "{family.__name__}"\n{table}\n[data]{text.split("[data]")[1]}'
    (tmp_path / "family.toml").write_text(text)
    job = run.prepare("family.toml", ["train.epochs=1", "optimizer.warmup_steps=0"], "run")
    assert type(job.model) is family
    run.fit(job)
    loaded = keras.models.load_model(job.folder.checkpoint)
    images = np.full((2, 8, 8, 1), 100.0, "float32")
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), job.model.predict(images, verbose=0), atol=1e-5
    )
    labels, probabilities = np.array([0, 1]), np.full((2, 10), 0.1)
    finish.figures.predictions(
        job.model, images, labels, probabilities, tmp_path / "predictions.png"
    )
    assert (tmp_path / "predictions.png").stat().st_size > 1000


def test_many_processes_are_refused(distilled):
    plan = recipe.read(Path(distilled))
    with pytest.raises(ValueError, match="teacher needs one device.*2 devices of 2 processes"):
        Devices("data", ProcessGroup(0, 2), count=2).check(plan)


def test_the_smoke_form_of_a_recipe_keeps_its_family(distilled, tmp_path):
    found = overrides(tmp_path / distilled, tmp_path / "smoke")
    assert "model.width=32" in found and "data.source=digits" in found
    (teacher,) = [x for x in found if x.startswith("distill.teacher=")]
    assert type(keras.models.load_model(teacher.partition("=")[2])) is SmallCNN
