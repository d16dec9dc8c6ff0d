"""Recipes that leave values to the data, and the recipe `finetune`, which leaves most of them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import once, randomize, tiny_swin, tiny_vit
from tests.training.finetune_runs import die, prepare_smoke
from tests.training.pictures import write_folder
from training import data, recipe
from training.data.examples import Split, Splits
from training.devices.distribute import Devices
from training.loop import fit, run
from training.recipe.derived import derive, validation_share
from training.recipe.schema import DataTable
from training.tasks.head import logistic_regression

ROOT = Path(__file__).parents[3]


def of_data(count, *overrides, classes=5, devices=None):
    """What `finetune` derives for so many pictures, a dict, and the recipe in force."""
    labels = np.arange(count) % classes
    share = validation_share(labels)
    train, held_out = data.stratified(Split(labels, labels), share)
    splits = Splits(train, held_out, held_out, [f"kind {i}" for i in range(classes)])
    plan = recipe.read(recipe.find("finetune"), overrides)
    plan, derived = derive(plan, splits, devices or Devices())
    return derived, plan


# pictures: (validation, batch size, accumulate, epochs, warm-up, EMA, learning rate)
SCHEDULES = {
    20: (0.25, 8, 1, 100, 5, 0.9, 2.1e-4),
    100: (0.1, 8, 1, 10, 6, 0.9091, 2.1e-4),
    300: (0.1, 16, 1, 9, 7, 0.9306, 3e-4),
    1_000: (0.1, 32, 1, 9, 13, 0.9603, 4.2e-4),
    10_000: (0.1, 32, 4, 9, 126, 0.9842, 6e-4),
    100_000: (0.05, 32, 8, 9, 1336, 0.997, 6e-4),
}


@once
@pytest.mark.parametrize("pictures", SCHEDULES)
def test_the_schedule_follows_from_the_number_of_pictures(pictures):
    derived, plan = of_data(pictures)
    found = (
        plan.data.validation,
        plan.train.batch_size,
        plan.optimizer.accumulate,
        plan.train.epochs,
        plan.optimizer.warmup_steps,
        plan.optimizer.ema,
        plan.optimizer.learning_rate,
    )
    assert found == SCHEDULES[pictures]


@once
def test_an_override_moves_what_follows_from_it():
    derived, plan = of_data(100_000, "train.batch_size=128", "train.epochs=2")
    assert "train.batch_size" not in derived and "train.epochs" not in derived
    assert (plan.train.batch_size, plan.optimizer.accumulate) == (128, 2)  # 256 an update
    assert plan.optimizer.warmup_steps == round(0.05 * 2 * (95_000 // 128))
    derived, plan = of_data(100_000, "optimizer.accumulate=1", "optimizer.warmup_steps=7")
    assert plan.optimizer.learning_rate == 4.2e-4  # of 32 images an update
    assert plan.optimizer.warmup_steps == 7 and "optimizer.warmup_steps" not in derived
    derived, plan = of_data(300, "data.validation=0.2", "model.num_classes=9")
    assert plan.data.validation == 0.2 and plan.model.arguments["num_classes"] == 9
    assert of_data(300, "finetune.train=head")[1].optimizer.learning_rate == 1e-3
    assert of_data(300, "finetune.train=lora")[1].optimizer.learning_rate == 5e-4


@once
def test_several_devices_share_a_batch():
    _, plan = of_data(100_000, devices=Devices("data", count=4))
    assert (plan.train.batch_size, plan.optimizer.accumulate) == (128, 2)
    mirrored = Devices("data", count=3, tf_strategy=SimpleNamespace())
    _, plan = of_data(100_000, devices=mirrored)  # where Keras cannot accumulate
    assert (plan.train.batch_size, plan.optimizer.accumulate) == (255, 1)
    mirrored.check(plan)


@once
def test_small_classes_keep_an_image_for_the_validation():
    assert validation_share(np.arange(1_000_000) % 10) == 0.005
    for each in (2, 3, 7, 20, 100):
        labels = np.arange(4 * each) % 4
        _, held_out = data.stratified(Split(labels, labels), validation_share(labels))
        assert set(held_out.labels) == {0, 1, 2, 3}, each
        assert len(held_out.labels) <= len(labels) / 2


@once
def test_what_is_derived_fits_every_number_of_pictures():
    """No number makes a schedule that the optimizer or the checks of a run refuse."""
    for count in (4, 5, 7, 16, 33, 99, 243, 400, 4_000, 77_777):
        _, plan = of_data(count, classes=2)
        size = count - round(plan.data.validation * count)
        steps = plan.train.epochs * (size // plan.train.batch_size)
        updates = steps // plan.optimizer.accumulate
        assert plan.optimizer.warmup_steps < steps and updates >= 10
        assert plan.optimizer.ema ** (updates - 1) < 0.05 or not plan.optimizer.ema


@once
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=many", '"auto" or of type int'),
        ("optimizer.ema=1.0", r"in \[0, 1\)"),
        ("train.seed=auto", "must be of type int"),
        ("augment.mixup=auto", "must be of type float"),
        ("finetune.head=old", "one of new, fitted"),
        ("finetune.source=", "finetune.source must be set beside head='fitted'"),
        ("model.num_class=3", "did you mean 'model.num_classes'"),
    ],
)
def test_what_cannot_be_derived_is_refused(override, message):
    with pytest.raises(ValueError, match=message):
        recipe.read(recipe.find("finetune"), [override])
    with pytest.raises(ValueError, match="set beside model.variant='auto'"):
        new = ["finetune.source=", "finetune.head=new"]
        recipe.read(recipe.find("finetune"), new)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Pictures of three classes in the folder photos, a model for them in the folder source."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photos")
    preprocessor = keras_vit.Preprocessor(16, "squash", 1.0, mean=(0.4,) * 3, std=(0.2,) * 3)
    model = tiny_vit(num_classes=7, image_size=16, layer_scale=0.5, preprocessor=preprocessor)
    randomize(model)
    keras_vit.save_pretrained(model, "source", "keras")
    return ["data.source=folder:photos", "finetune.source=source"]


@once
def test_one_line_is_all_that_a_folder_of_pictures_needs(photos, capsys):
    job = run.prepare("finetune", photos)
    said = capsys.readouterr().out
    (line,) = [x for x in said.splitlines() if x.startswith("from 27 training images: ")]
    for value in ("model.num_classes=3", "data.validation=0.1", "train.epochs=34"):
        assert value in line
    assert "head: fitted to 27 images, " in said
    assert job.model.class_names == ["cat", "dog", "owl"]
    assert job.model.input.shape[1:] == (16, 16, 3) and job.notes == []
    written = recipe.read(job.folder.recipe)
    tables = written.as_dict().values()
    left = {key for table in tables for key, value in table.items() if value == "auto"}
    assert left == {"jit_compile", "strategy"}  # whose own word it is
    assert written.model.arguments["num_classes"] == 3
    assert written.model.arguments["image_size"] == 16
    assert written.model.arguments["width"] == 16  # a size that no variant has
    run.fit(job)

    # The page in the run folder says all of it, so the run goes on from there.
    again = run.prepare("finetune", [], resume=True)
    said = capsys.readouterr().out
    assert "they differ in finetune.source\n" in said  # an override; not what was derived
    assert "training images: " not in said
    assert again.recipe == written and again.done["epochs"] == 34


@once
@pytest.mark.parametrize("name", ["vit_base_finetune_384", "lora", "linear_probe"])
def test_recipes_from_published_weights_begin_with_few_pictures(photos, name):
    """Their schedules, classes and validation images were made for ImageNet-1k once."""
    few = ["train.batch_size=8"] if name != "vit_base_finetune_384" else []
    small = ["model.variant=auto", "model.image_size=16"]
    patches = ["model.patch_size=8"] if name == "linear_probe" else []
    job = run.prepare(name, [*photos, *small, *patches, *few, "train.precision=float32"])
    assert job.model.output.shape[-1] == 3 and len(job.splits.validation.labels) >= 3
    assert [note for note in job.notes if "batch" not in note] == []
    steps = job.recipe.train.epochs * data.steps_per_epoch(job.splits.train, 8)
    assert 0 <= job.recipe.optimizer.warmup_steps < steps / 2


@once
def test_the_variant_is_that_of_the_source():
    plan = recipe.read(recipe.find("finetune"))
    table = plan.model.of_model(tiny_swin())
    assert table.variant == "SwinTransformer" and table.arguments["depths"] == (2, 2)
    table = plan.model.of_model(keras_vit.ViTTiny(num_classes=3, image_size=32))
    assert table.variant == "ViTTiny"
    assert table.arguments == {"image_size": 32, "num_classes": "auto"}


@once
def test_a_head_is_fitted_to_features():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    centres = 50.0 * rng.normal(size=(3, 8))
    features = (centres[labels] + rng.normal(size=(120, 8))).astype("float32")
    kernel, bias = logistic_regression(features, labels + 1, 5)  # classes 0 and 4 have no examples
    assert kernel.shape == (8, 5) and kernel.dtype == bias.dtype == "float32"
    assert ((features @ kernel + bias).argmax(-1) == labels + 1).all()
    assert not kernel[:, [0, 4]].any() and bias[[0, 4]].max() < bias[1:4].min()
    two = labels < 2
    kernel, bias = logistic_regression(features[two], labels[two], 2)
    assert ((features[two] @ kernel + bias).argmax(-1) == labels[two]).all()
    np.testing.assert_allclose(kernel[:, 0], -kernel[:, 1])


def test_a_fitted_head_starts_training(photos):
    """On the features of the source, whose other weights stay as they are."""
    fitted = run.prepare("finetune", photos, "fitted").model
    new = run.prepare("finetune", [*photos, "finetune.head=new"], "new").model
    for one, other in zip(fitted.weights, new.weights, strict=True):
        a, b = keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        assert np.array_equal(a, b) != one.path.startswith("head/"), one.path


class Killed(BaseException):
    """What nothing catches; in a process of its own SIGKILL takes its place."""


def check_killed(kill):
    whole = prepare_smoke("whole")
    run.fit(whole)
    for moment in ((0, 0), (0, 2), (1, 3)):  # the first before there is a checkpoint
        kill(*moment)
    resumed = prepare_smoke("killed")
    assert (resumed.done["epochs"], resumed.done["step"]) == (1, 3)
    run.fit(resumed)
    for one, other in zip(whole.model.weights, resumed.model.weights, strict=True):
        a, b = keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        np.testing.assert_array_equal(a, b, err_msg=one.path)
    assert whole.folder.metrics.read_text() == resumed.folder.metrics.read_text()


def test_killed_and_resumed_it_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def kill(epoch, step):
        def here():
            raise Killed

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(fit, "Checkpoint", fit.Checkpoint)  # to be put back
            die("killed", epoch, step, here)
        keras.utils.set_random_seed(99)

    check_killed(kill)


@pytest.mark.slow
def test_killed_by_a_signal_it_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def kill(epoch, step):
        program = "import sys, json; from tests.training.finetune_runs import die; "
        program += "die('killed', *json.loads(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps([epoch, step])],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr

    check_killed(kill)


@once
def test_all_that_does_not_fit_is_said_at_once(photos):
    """Not one error after another, each behind the data's being read again."""
    plan = [*photos, "optimizer.warmup_steps=500", "optimizer.ema=0.9999", "train.epochs=2"]
    with pytest.raises(ValueError) as error:
        run.prepare("finetune", plan)
    said = str(error.value)
    for key, value in (("warmup_steps", "warmup_steps=500"), ("ema", "optimizer.ema=0.9999")):
        assert f"optimizer.{key} " in said and f"Received: {value}" in said and "auto" in said
    with pytest.raises(ValueError, match="set data.validation=auto"):
        run.prepare("finetune", [*photos, "data.validation=0.01"])
    with pytest.raises(ValueError, match="set data.validation=auto"):
        data.load(DataTable("folder:photos", validation=0.01), 3)
