"""Runs of a detection: trained, killed, resumed, reported."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from tests.helpers import once, randomize
from tests.tasks.detr.helpers import tiny_detr
from tests.training import box_scenes as scenes
from tests.training.kills import die, killing, prepare, state
from training import evaluate, recipe
from training.data import detection
from training.loop import finish, fit, run
from training.recipe.schema import AugmentTable, DataTable
from training.results.folder import RunFolder
from training.tasks import of
from training.tasks.detection import (
    FREE,
    classes_of,
    compile_model,
    measured,
    normalisation,
    notes,
)
from training.tasks.sourced import with_settings

pytest.importorskip("faster_coco_eval")
SETTINGS = ["optimizer.ema=0.5", "optimizer.accumulate=2", "train.checkpoint_steps=1"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Path of the recipe, as a str; the test runs in its folder."""
    monkeypatch.chdir(tmp_path)
    source = scenes.write_coco(tmp_path / "scenes")
    Path("small.toml").write_text(scenes.RECIPE.format(source=source))
    return "small.toml"


def replaced(*pairs):
    text = Path("small.toml").read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    Path("small.toml").write_text(text)


@pytest.mark.slow  # by default on one backend, by a signal
def test_killed_in_two_epochs(small):
    """In all bits: weights, averages, optimizer, metrics."""
    whole = prepare("whole", SETTINGS)
    untrained = [keras.ops.convert_to_numpy(v).copy() for v in whole.model.trainable_variables]
    run.fit(whole)
    still = {
        v.path
        for start, v in zip(untrained, whole.model.trainable_variables, strict=True)
        if not np.abs(start - keras.ops.convert_to_numpy(v)).max()
    }
    # Blocks of a ResNet begin as the identity: behind that nothing is learned in the first update.
    assert all(path.startswith("stage") for path in still), still

    class Killed(BaseException):
        pass

    def kill():
        raise Killed

    for epoch, step in ((0, 1), (1, 1)):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            job = prepare("killed", SETTINGS)
            patch.setattr(fit, "Checkpoint", killing(epoch, step, kill))
            run.fit(job)
        keras.utils.set_random_seed(99)
    check_the_same(whole)


def check_the_same(whole):
    resumed = prepare("killed")
    run.fit(resumed)
    for (path, one), (_, other) in zip(state(whole), state(resumed), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=path)
    one, other = (RunFolder(x).metrics.read_text() for x in ("whole", "killed"))
    assert one == other and "val_AP50" in one


@once  # the rest of it is the same on every backend
def test_killed_by_a_signal(small):
    whole = prepare("whole", SETTINGS)
    run.fit(whole)
    die(SETTINGS, 1, 1)
    check_the_same(whole)


@once
def test_rates_and_decay_are_the_recipes(small):
    job = run.prepare(small, [], "run")
    rule, variables = job.model.optimizer, job.model.trainable_variables
    backbone = {layer.name for layer in keras_vit.ResNet(depths=[1, 1], widths=[8, 8]).layers}
    own = [v.path.partition("/")[0] in backbone for v in variables]
    assert 5 < sum(own) < len(own) - 20
    assert rule.shares == [0.1 if part else 1.0 for part in own]
    assert rule.decays == [True] * len(variables) and rule.global_clipnorm == 0.1
    assert job.model.class_ids == scenes.IDS and job.model.class_names == scenes.CLASSES
    # A schedule that drops once.
    steps = 2 * 2
    drops = [float(rule._learning_rate(step)) for step in range(steps)]
    np.testing.assert_allclose(drops, [1e-3, 1e-3, 1e-3, 1e-4], rtol=1e-6)
    assert job.model._compiled.given["no_object_weight"] == 0.1
    changed = run.prepare(small, ["train.no_object_weight=0.4"], "other")
    assert changed.model._compiled.given["no_object_weight"] == 0.4


@once
def test_what_is_said_at_the_start(small, capsys):
    run.prepare(small, ["model.num_queries=2"], "run")
    said = capsys.readouterr().out
    beyond = [i for i in range(12) if len(scenes.objects(i)) > 2]
    assert beyond and "training pictures have more objects than model.num_queries=2, such" in said
    assert "batches are padded to at most 4 sizes, with sides of 32, 64 pixels" in said
    with pytest.raises(ValueError, match=r"finetune\.head must be 'new' for task\.kind="):
        run.prepare(small, ["finetune.head=fitted", "finetune.source=x"], "no")
    with pytest.raises(ValueError, match=r"model\.variant must be a model of task\.kind="):
        tables = {"task": {"kind": "detection"}, "model": {"variant": "SETR"}}
        others = {"optimizer": {"learning_rate": 0.1}, "train": {"epochs": 1, "batch_size": 1}}
        recipe.of_tables({**tables, **others, "data": {"source": "coco:x"}})
    with pytest.raises(ValueError, match=r"data\.raw_ids must be left out"):
        run.prepare("digits", ["data.raw_ids=true"], "no")
    for name in ("train", "val"):
        file = Path("scenes", "annotations", f"instances_{name}.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    with pytest.raises(ValueError, match="must be objects in the training pictures"):
        run.prepare(small, [], "no")


@once
def test_a_model_is_what_its_recipe_says(small, monkeypatch):
    backbone = keras_vit.ResNet(
        depths=[1, 1], widths=[8, 8], stem_width=8, block="basic", num_classes=None, image_size=32
    )
    randomize(backbone)
    backbone.save("backbone.keras")
    text = Path("small.toml").read_text()
    start, end = text.index("[model.backbone]"), text.index("[data]")
    Path("small.toml").write_text(
        text[:start] + '[finetune]\nsource = "backbone.keras"\n\n' + text[end:]
    )
    job = run.prepare(small, [], "tuned")
    loaded = {w.path: w for w in backbone.weights}
    same = [w for w in job.model.weights if w.path in loaded]
    assert len(same) > 10
    for weight in same:
        one, other = (keras.ops.convert_to_numpy(x) for x in (weight, loaded[weight.path]))
        np.testing.assert_array_equal(one, other, err_msg=weight.path)
    frozen = run.prepare(small, ["finetune.train=head", "optimizer.backbone_rate=1"], "head")
    assert not {w.path for w in same} & {v.path for v in frozen.model.trainable_variables}
    with pytest.raises(ValueError, match=r"model\.backbone must be left out beside"):
        run.prepare(small, ["model.backbone=ResNet18"], "no")
    # A whole detector: everything of it, and other classes.
    whole = job.model
    with monkeypatch.context() as patch:
        patch.setattr(keras_vit, "from_pretrained", lambda *_, **__: whole)
        table = recipe.read(Path(small), ["finetune.source=x"])
        assert of(table).build(table, scenes.CLASSES) is whole
        table.model.arguments["width"] = 32
        with pytest.raises(ValueError, match=r"model\.width must be that of finetune\.source, 16"):
            of(table).build(table, None)
    whole.save("whole.keras")
    table = recipe.read(Path(small), ["finetune.source=whole.keras", "model.num_classes=5"])
    tuned = of(table).build(table, ["a", "b", "c", "d", "e"])
    assert tuned.num_classes == 5 and tuned.class_names == ["a", "b", "c", "d", "e"]
    loaded = {w.path: w for w in whole.weights}
    for weight in tuned.weights:
        if "class_head" not in weight.path and "seed" not in weight.path:
            one, other = (keras.ops.convert_to_numpy(x) for x in (weight, loaded[weight.path]))
            np.testing.assert_array_equal(one, other, err_msg=weight.path)


@once
def test_a_source_takes_the_aids_of_a_recipe_and_refuses_other_sizes(small):
    source = tiny_detr()
    randomize(source)
    wanted = {"query_groups": 3, "denoising": True, "mlp_dim": 24, "class_names": list("abcde")}
    found = with_settings(source, wanted, FREE, "float32", "backbone")
    assert found.get_config()["query_groups"] == 3 and found.get_config()["denoising"]
    assert found.class_names == list("abcde") and found.num_classes == 5
    own = {weight.path: weight for weight in found.weights}
    for weight in source.weights:
        one, other = (keras.ops.convert_to_numpy(x) for x in (weight, own[weight.path]))
        np.testing.assert_array_equal(one, other, err_msg=weight.path)
    assert with_settings(source, {"width": 16, "mlp_dim": [24, 24]}, FREE, "", "") is source
    for key, value in (("image_size", 32), ("mlp", "gelu"), ("position_embedding", "learned")):
        with pytest.raises(ValueError, match=rf"model\.{key} must be that of finetune\.source"):
            with_settings(source, {key: value}, FREE, "float32", "backbone")


@once
def test_test_pictures_beyond_pad_to_are_said_before_a_run(small):
    split, _ = detection.read(DataTable(f"coco:{os.getcwd()}/scenes"), "val", "auto")
    longest = int(split.labels.sizes.max())
    given = SimpleNamespace(
        data=DataTable("coco:x", pad_to=(longest,)), augment=AugmentTable(flip=False)
    )
    larger = split._replace(labels=split.labels[:])
    splits = SimpleNamespace(train=split, validation=split, test=larger)
    assert str(longest) in notes(given, splits)[0]
    larger.labels.sizes[0] += 32
    with pytest.raises(ValueError, match=r"largest of data\.pad_to must be that of a picture"):
        notes(given, splits)


@once
def test_a_source_keeps_no_ids_of_other_data(small):
    split, _ = detection.read(DataTable(f"coco:{os.getcwd()}/scenes"), "val", "auto")
    splits = SimpleNamespace(train=split, validation=split)
    given = SimpleNamespace(train=SimpleNamespace(no_object_weight=0.1, jit_compile="auto"))
    for ids, expected in ((scenes.IDS, scenes.IDS), ([0, 1, 2], None)):
        split.labels.class_ids = np.array(ids)
        model = SimpleNamespace(class_ids=[7, 8, 9], num_classes=3, compile=lambda *_, **__: None)
        compile_model(model, None, given, splits)
        assert model.class_ids == expected


@once
def test_padding_pictures_changes_their_boxes_as_little_as_their_size_says(small):
    """Of one picture and of a padded batch: the same pixels, the same size of the picture."""
    job = run.prepare(small, [], "run")
    split = job.splits.test
    alone, batch = (
        measured(job.model, split, job.recipe.data, size, scenes.CLASSES) for size in (1, 4)
    )
    for i in range(4):
        one, other = alone.picture(i), batch.picture(i)
        height, width = split.labels.sizes[i]
        assert (np.abs(one.boxes).max() <= 2 * max(height, width)).all()
        np.testing.assert_allclose(one.boxes.mean(), other.boxes.mean(), atol=3)
        np.testing.assert_array_equal(one.truth, other.truth)
    mean = normalisation(job.model)["mean"]
    assert len(mean) == 3 and 0.4 < np.mean(mean) < 0.5


@once
def test_outputs_of_a_model_are_classes_of_the_data(small):
    split, _ = detection.read(DataTable(f"coco:{os.getcwd()}/scenes"), "val", "auto")
    model = SimpleNamespace(class_ids=[90, 5, 3], num_classes=3)
    assert classes_of(model, split.labels).tolist() == [2, -1, 0]
    model = SimpleNamespace(class_ids=None, num_classes=5)
    assert classes_of(model, split.labels).tolist() == [0, 1, 2, -1, -1]


@once
def test_the_report_of_a_run_and_evaluations(small, capsys, monkeypatch):
    exported = SimpleNamespace(max_difference=0.0)
    monkeypatch.setattr(finish.keras_vit, "export", lambda *_, **__: exported)
    job = run.prepare(small, ["train.epochs=1"], "run")
    result = run.execute(job)
    assert result == json.loads(Path("run/result.json").read_text())
    assert result["test_images"] == 4 and len(result["test_class_AP"]) == 3
    assert result["test_AR100"] >= 0 and sum(result["test_errors"].values()) > 0
    text = Path("run/report.md").read_text()
    assert text.startswith(f"# run: AP {100 * result['test_AP']:.2f} %, AP50 ")
    assert "| class | objects | AP | AP50 | AP small | AP medium | AP large |" in text
    assert "| missed | " in text and "batches are padded to" in text
    for name in ("precision_recall.png", "worst.png", "predictions.png", "curves.png"):
        assert f"({name})" in text
        assert min(Image.open(Path("run") / name).size) > 300
    assert of(job.recipe).summary({**result, "epochs": 1}).startswith("Test AP ")
    assert recipe.read_of_run(Path("run/recipe.toml")).task.kind == "detection"
    capsys.readouterr()
    assert evaluate.main(["run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for key in ("AP", "AP50", "AR100", "errors", "AP50_interval", "class_AP50"):
        assert found[key] == pytest.approx(result[f"test_{key}"]), key
    other = f"coco:{os.getcwd()}/scenes"
    words = ["run/model.keras", "--source", other, "--split", "train", "--size", "24", "40"]
    assert evaluate.main([*words, "--batch-size", "3"]) == 0
    assert "on 12 pictures with" in capsys.readouterr().out
    for more, said in (
        (["run", "--labels", "order"], "--labels is for models that classify"),
        (["run", "--flip"], "--flip is for models that segment pictures"),
        (["run/model.keras"], "--source is needed"),
        (["run", "--split", "no"], "--split must be one of train"),
    ):
        assert evaluate.main(more) == 2
        assert said in capsys.readouterr().err
