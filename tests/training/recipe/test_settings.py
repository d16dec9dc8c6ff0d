"""Settings without effect: every one that a recipe can have is said or refused."""

import dataclasses
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers import backends, once, to_numpy
from tests.training.pictures import write_folder
from training import data, evaluate, recipe
from training.data.examples import Split
from training.data.masks import LabelMap, Masks
from training.devices.distribute import Devices
from training.loop import fit, run
from training.loop.callbacks import StopOnNaN
from training.recipe import settings
from training.recipe.kinds import ONLY
from training.recipe.optimizers import updates
from training.recipe.schema import DataTable
from training.results import metrics, report
from training.results.folder import RunFolder

# The same on every backend.
pytestmark = once


@pytest.fixture(scope="module")
def digits():
    return data.load(DataTable("digits"), 10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pets")
    return data.load(DataTable(write_folder(path / "split")), 10)


def notes(small, splits, *overrides, steps=5, count=1, resume=False):
    plan = recipe.read(Path(small), overrides)
    return settings.check(plan, splits, steps, Devices(count=count), resume)


TEACHER = "distill.teacher=x.keras"
HARD_TEACHER = (TEACHER, "distill.kind=hard")
# (settings beside which it has no effect, the setting, settings beside which it has one)
IDLE = [
    ([], "finetune.lora_rank=4", ["finetune.source=x", "finetune.train=lora"]),
    (["finetune.source=x", "finetune.train=head"], 'model.frozen_layers=["norm"]', []),
    (["finetune.source=x", "finetune.train=lora"], 'model.frozen_layers=["norm"]', []),
    (["finetune.source=x", "finetune.train=head"], "optimizer.layer_decay=0.8", []),
    ([], "distill.kind=soft", [TEACHER]),
    ([], "distill.alpha=0.1", [TEACHER]),
    ([], "distill.temperature=2.0", [TEACHER, "distill.kind=soft"]),
    (HARD_TEACHER, "distill.temperature=2.0", [TEACHER, "distill.kind=soft"]),
    (["distill.alpha=0.0"], TEACHER, ["distill.alpha=0.1"]),
    ([TEACHER, "distill.alpha=1.0"], "train.label_smoothing=0.2", [TEACHER, "distill.alpha=0.9"]),
    ([], "data.train_split=train+validation", None),
    ([], "data.test_split=validation", None),
    ([], "data.validation_split=val", None),
    ([], "data.test=0.3", None),
    ([], "data.data_dir=/data", None),
    ([], "data.first_label=1", None),
    ([], "data.crop_fraction=1.0", None),
    ([], "data.max_corrupt=3", None),
    ([], "data.upright=false", None),
    ([], "data.interpolation=bilinear", ["augment.crop_scale=[0.5, 1.0]"]),
    ([], "data.interpolation=bilinear", ["model.image_size=16"]),
    ([], "augment.crop_ratio=[1.0, 1.0]", ["augment.crop_scale=[0.5, 1.0]"]),
    (["augment.rotate=0", "augment.translate=0"], "augment.probability=0.5", ["augment.zoom=0.1"]),
    (["augment.probability=0"], "augment.rotate=10", ["augment.probability=0.1"]),
    (["augment.probability=0"], "augment.flip=true", ["augment.probability=0.1"]),
    ([], "augment.color_jitter=[0.0, 0.0, 0.0]", None),
    (["augment.rotate=0", "augment.translate=0"], "augment.repeats=3", ["augment.erasing=0.1"]),
    (["train.batch_size=1"], "augment.mixup=0.2", ["train.batch_size=2"]),
    (["train.batch_size=1"], "augment.cutmix=0.2", ["train.batch_size=2"]),
    (["optimizer.accumulate=4"], "optimizer.warmup_steps=3", ["optimizer.accumulate=3"]),
    ([], "optimizer.cooldown_steps=1", None),
    ([], "optimizer.min_learning_rate=1e-5", ["optimizer.schedule=poly"]),
    ([], "optimizer.nesterov=false", ["optimizer.name=sgd"]),
    ([], "optimizer.drop_at=0.5", ["optimizer.schedule=step"]),
    (["optimizer.weight_decay=0"], "optimizer.decay_all=true", ["optimizer.weight_decay=0.1"]),
    (["optimizer.accumulate=3"], "optimizer.cooldown_steps=3", ["optimizer.accumulate=4"]),
    ([], "train.checkpoint_steps=5", None),
]


@pytest.mark.parametrize(("beside", "setting", "else_beside"), IDLE, ids=str)
def test_a_setting_without_effect_is_said(small, digits, beside, setting, else_beside):
    said = notes(small, digits, setting, *beside)
    key = setting.partition("=")[0]
    found = [note for note in said if note.startswith(f"{key}=") and "has no effect" in note]
    assert len(found) == 1, said
    if else_beside is not None:
        assert not any(
            note.startswith(f"{key}=") for note in notes(small, digits, setting, *else_beside)
        )


def test_what_has_an_effect_with_one_source_has_none_with_another(small, digits, folder):
    keys = ["train_split=train+validation", "test_split=validation", "crop_fraction=1.0"]
    keys += ["max_corrupt=3", "interpolation=bilinear"]
    overrides = ["data.source=folder:x", *(f"data.{key}" for key in keys)]
    assert not [note for note in notes(small, folder, *overrides) if note.startswith("data.")]
    said = notes(small, folder, *overrides, "data.test=0.3", "data.first_label=1")
    assert [note.partition("=")[0] for note in said if "no effect" in note] == [
        "data.test",
        "data.first_label",
    ]
    half = Split(folder.train.images[:10], folder.train.labels[:10])
    held_out = folder._replace(test=half)
    assert not any(
        "data.test=" in note for note in notes(small, held_out, *overrides, "data.test=0.3")
    )


def test_every_key_of_a_recipe_was_thought_of(small, digits):
    """A new key must be added: to the cases above, or here if it always has an effect.

    Keys of other tasks are refused: see `training.recipe.kinds`.
    """
    always = {
        "task": {"kind"},
        "data": {"source", "validation"},
        "augment": {"crop_scale", "pad_crop", "randaugment", "erasing", "translate", "zoom"},
        "optimizer": {"learning_rate", "name", "schedule", "weight_decay", "clip_norm"},
        "train": {"epochs", "batch_size", "seed", "precision", "jit_compile", "keep_epochs"},
        "finetune": {"source", "train", "like", "head"},  # the last on one device
        "log": {"tensorboard", "wandb"},
        "distribute": {"strategy"},
    }
    always["optimizer"] |= {"beta_2", "head_rate"}  # refused where a rule has none
    foreign = {name for name, tasks in ONLY.items() if "classification" not in tasks}
    always["train"] |= {"skip_nan"}
    below = {"optimizer": {"accumulate", "ema"}}  # the tests below
    tried = {case[1].partition("=")[0] for case in IDLE}
    for table in dataclasses.fields(recipe.Recipe):
        if table.name != "model":
            for field in dataclasses.fields(table.type):
                if f"{table.name}.{field.name}" in foreign:
                    continue
                known = always.get(table.name, set()) | below.get(table.name, set())
                assert (field.name in known) != (f"{table.name}.{field.name}" in tried), field.name


def test_a_recipe_as_it_is_has_nothing_to_say(small, digits):
    assert notes(small, digits) == []
    for name in ("digits", "cifar10_teacher"):
        plan = recipe.read(recipe.find(name), ["model.image_size=8"])
        assert settings.check(plan, digits, 50, Devices(), False) == []


def test_a_head_is_not_fitted_on_several_devices(small, digits):
    fitted = ["finetune.source=x", "finetune.head=fitted"]
    assert notes(small, digits, *fitted) == []
    said = notes(small, digits, *fitted, count=2)
    assert said == ["finetune.head='fitted' has no effect on several devices"]


def test_accumulation_beyond_the_run_is_refused(small, digits):
    with pytest.raises(ValueError, match="optimizer.accumulate=500, 20 steps"):
        notes(small, digits, "optimizer.accumulate=500")
    with pytest.raises(ValueError, match="optimizer.accumulate=21, 20 steps"):
        notes(small, digits, "optimizer.accumulate=21")
    assert (
        "no weight is ever updated"
        in notes(small, digits, "optimizer.accumulate=21", resume=True)[0]
    )
    none = ["optimizer.warmup_steps=0"]
    assert notes(small, digits, "optimizer.accumulate=20", *none) == []
    said = notes(small, digits, "optimizer.accumulate=8", *none)
    assert said == [
        "the last 4 of 20 steps make no update: optimizer.accumulate=8 does not divide them"
    ]
    assert notes(small, digits, "optimizer.accumulate=8", *none, steps=251) == []  # 4 of 1,004


def test_an_average_of_the_first_weights_is_refused(small, digits):
    with pytest.raises(ValueError, match="at most 0.9641 for 20 updates.*would be 100 % those"):
        notes(small, digits, "optimizer.ema=0.9999")
    with pytest.raises(ValueError, match="for 10 updates: .*would be 63 % those"):
        notes(small, digits, "optimizer.ema=0.95", "optimizer.accumulate=2")
    assert "would be 100 %" in notes(small, digits, "optimizer.ema=0.9999", resume=True)[0]
    (said,) = notes(small, digits, "optimizer.ema=0.95")
    assert "will be 38 % those that the run begins with (optimizer.ema=0.95)" in said
    assert notes(small, digits, "optimizer.ema=0.8") == []
    assert notes(small, digits, "optimizer.ema=0.9641")  # what the message names is the limit
    with pytest.raises(ValueError, match="at most 0.9641"):
        notes(small, digits, "optimizer.ema=0.9642")


def test_a_warm_up_of_most_of_the_run_is_said(small, digits):
    assert notes(small, digits, "optimizer.warmup_steps=10") == []
    said = notes(small, digits, "optimizer.warmup_steps=11")
    assert said == ["the warm-up takes 11 of 20 steps"]


def test_one_class_is_nothing_to_learn(small, digits):
    one = Split(digits.train.images[:9], np.full(9, 3))
    with pytest.raises(ValueError, match="9 images of class 3"):
        notes(small, digits._replace(train=one))
    with pytest.raises(ValueError, match="an integer of 2 or more. Received: model.num_classes=1"):
        notes(small, digits, "model.num_classes=1")
    with pytest.raises(ValueError, match="model.num_classes='ten'"):
        notes(small, digits, "model.num_classes=ten")
    few = notes(small, digits, "model.num_classes=1000")
    assert few == ["990 of the 1,000 classes of model.num_classes have no training images"]


@pytest.mark.parametrize(
    ("counts", "name", "message"),
    [
        ([[9, 0], [9, 0]], "train", "masks of 0 and 255 .* 2 masks for train with class 0 alone"),
        ([[0, 0], [0, 0]], "train", "2 masks for train with no class"),
        ([[0, 0]], "test", "1 masks for test with no class"),
    ],
)
def test_masks_without_classes_are_nothing_to_learn(counts, name, message, small, digits):
    def part(counts):
        sizes = np.full((len(counts), 2), 3)
        masks = Masks(np.zeros((len(counts), 3, 3), int), LabelMap(), sizes, counts)
        return Split(digits.train.images[: len(counts)], masks)

    splits = digits._replace(train=part([[5, 4]]), test=part([[9, 0]]))
    assert not any("masks" in note for note in notes(small, splits, "model.num_classes=2"))
    with pytest.raises(ValueError, match=message):
        notes(small, splits._replace(**{name: part(counts)}), "model.num_classes=2")


def test_a_frozen_model_is_refused(small):
    layers = ["patch_embedding", "class_token", "position_embedding", "block00", "block01", "norm"]
    frozen = f"model.frozen_layers={layers}".replace("'", '"')
    run.prepare(small, [frozen], "part")
    with pytest.raises(ValueError, match="a weight to train.*VisionTransformer with"):
        run.prepare(small, [frozen.replace("]", ', "head"]')], "run")
    assert not Path("run").exists()


def test_it_is_said_on_start_and_in_the_report(small, capsys):
    plan = ["optimizer.accumulate=500"]
    with pytest.raises(ValueError, match="no weight is ever updated"):
        run.prepare(small, plan, "run")
    assert not Path("run").exists()
    job = run.prepare(small, ["optimizer.accumulate=3", "data.max_corrupt=2"], "run")
    expected = [
        "data.max_corrupt=2 has no effect with data.source=digits",
        "the last 2 of 20 steps make no update: optimizer.accumulate=3 does not divide them",
    ]
    assert job.notes == expected
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("note: ")] == [f"note: {x}" for x in expected]
    # A run that has begun goes on, whatever a later version thinks of its recipe.
    text = Path("run/recipe.toml").read_text()
    Path("run/recipe.toml").write_text(text.replace("accumulate = 3", "accumulate = 500"))
    assert "no weight is ever updated" in run.prepare(small, [], "run", resume=True).notes[0]


def test_an_edited_recipe_does_not_reach_a_run_that_goes_on(small, capsys):
    run.prepare(small, ["train.seed=3"], "run")
    Path(small).write_text(Path(small).read_text().replace("epochs = 4", "epochs = 7"))
    capsys.readouterr()
    assert run.prepare(small, [], "run", resume=True).recipe.train.epochs == 4
    said = capsys.readouterr().out
    assert (
        "the run uses run/recipe.toml, not small.toml; they differ in train.epochs, train.seed"
        in said
    )
    run.prepare("run/recipe.toml", [], "run", resume=True)
    assert "counts" not in capsys.readouterr().out
    Path(small).write_text("no recipe")
    run.prepare(small, [], "run", resume=True)


def test_devices_refuse_what_they_would_not_do(small):
    plan = recipe.read(Path(small), ["train.jit_compile=on"])
    with pytest.raises(ValueError, match="compile under tf.distribute.*jit_compile='on'"):
        Devices("data", count=2, tf_strategy=object()).check(plan)
    Devices("data", count=2).check(plan)


def test_options_of_an_evaluation_that_change_nothing_are_refused(small, capsys, digits):
    run.prepare(small, [], "run").model.save("run/model.keras")
    for options, message in (
        (["--data-dir", "x"], "--data-dir needs --source tfds:NAME"),
        (["--first-label", "1"], "--first-label needs --source tfrecord:GLOB"),
        (["--source", "folder:x", "--first-label", "1"], "--first-label needs"),
        (["--source", "folder:x", "--labels", "real:y", "--split", "val"], "--split needs other"),
    ):
        assert evaluate.main(["run", *options]) == 2
        assert message in capsys.readouterr().err


def test_a_test_split_of_a_source_that_has_none_is_refused(tmp_path):
    write_folder(tmp_path / "pets")
    table = DataTable(f"folder:{tmp_path}/pets/train", test_split="validation")
    with pytest.raises(ValueError, match="needs a source with splits.*test_split='validation'"):
        data.load(table, 3)


class CountUpdates(StopOnNaN):
    """Counts the steps after which a weight is another."""

    changes = 0

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        now = [to_numpy(weight).copy() for weight in self.model.trainable_weights]
        if batch or self.epoch:
            changed = [not np.array_equal(a, b) for a, b in zip(self.before, now, strict=True)]
            CountUpdates.changes += any(changed)
        else:
            CountUpdates.changes = 0  # of the first step nothing before it is known
        self.before = now


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["optimizer.accumulate=3"], 3),  # of ten steps: after the third, sixth and ninth
        pytest.param(["optimizer.accumulate=4", "train.skip_nan=1"], 2, marks=pytest.mark.slow),
        pytest.param([], 10, marks=pytest.mark.slow),
    ],
    ids=["accumulated", "skipping", "plain"],
)
def test_the_updates_that_are_reported_happen(small, overrides, expected, monkeypatch):
    monkeypatch.setattr(fit, "StopOnNaN", CountUpdates)
    plan = ["train.epochs=2", "optimizer.warmup_steps=0", *overrides]
    job = run.prepare(small, plan, "run")
    before = [to_numpy(weight).copy() for weight in job.model.trainable_weights]
    run.fit(job)
    assert updates(job.model) == expected
    assert CountUpdates.changes == (expected if overrides else 9)
    for old, weight in zip(before, job.model.trainable_weights, strict=True):
        assert not np.array_equal(old, to_numpy(weight)), weight.path


def test_accuracy_at_chance_is_said_with_what_chance_is():
    labels = np.array([0] * 30 + [1] * 70)
    share = metrics.chance(labels)
    assert share == 0.7
    assert metrics.at_chance(0.7, share, 100) and metrics.at_chance(0.3, share, 100)
    assert metrics.at_chance(0.83, share, 100) and not metrics.at_chance(0.84, share, 100)
    assert not metrics.at_chance(0.71, share, 10**6)
    assert metrics.at_chance(1.0, 1.0, 100)
    result = {"test_accuracy": 0.7, "test_chance": share, "test_images": 100}
    said = report.chance_in_words(result)
    assert said == ", no better than chance: predicting the most frequent class gives 70.00 %"
    said = report.chance_in_words({**result, "test_accuracy": 0.8})
    assert (
        said == ", not clearly better than chance: predicting the most frequent class gives 70.00 %"
    )
    assert report.chance_in_words({**result, "test_accuracy": 0.9}) == ""
    del result["test_chance"]  # of a run of before
    assert report.chance_in_words(result) == ""


@backends("tensorflow")
def test_the_reports_first_line_and_the_terminal_say_it(small, untrained, capsys, monkeypatch):
    from training.__main__ import main

    def fit(job):
        for weight in job.model.get_layer("head").weights:
            weight.assign(np.zeros(weight.shape))  # all images are of the first class then

    monkeypatch.setattr(run, "fit", fit)
    drawn = ["--set", "train.epochs=1", "--set", "optimizer.warmup_steps=0"]
    assert main([small, "--run-dir", "run", *drawn, "--set", "data.max_corrupt=3"]) == 0
    first, *rest = RunFolder("run").report.read_text().splitlines()
    chance = "no better than chance: predicting the most frequent class gives 10.31 %"
    assert re.fullmatch(rf"# run: \d+\.\d\d % of 359 test images, {chance}", first), first
    assert "- data.max_corrupt=3 has no effect with data.source=digits" in rest
    assert "| updates | 0 in 5 steps of the run |" in rest
    assert f"after 1 epochs, {chance}. Everything" in capsys.readouterr().out
