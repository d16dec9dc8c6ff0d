"""Runs of a segmentation: trained, killed, resumed, reported."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from tests.helpers import once, randomize, tiny_vit
from tests.training import scenes
from tests.training.kills import die, killing, prepare, state
from training import evaluate, recipe
from training.loop import finish, fit, run
from training.loop.build import average_over_updates
from training.results.folder import RunFolder
from training.results.pixels import Counts
from training.tasks import of
from training.tasks.decoder import parts
from training.tasks.segmentation import balanced

SETTINGS = ["optimizer.ema=0.5", "optimizer.accumulate=2", "train.checkpoint_steps=1"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Path of the recipe, as a str; the test runs in its folder."""
    monkeypatch.chdir(tmp_path)
    return write("folder:" + scenes.write_folder(tmp_path / "scenes").partition(":")[2])


def write(source, replace=("", "")):
    Path("small.toml").write_text(scenes.RECIPE.format(source=source).replace(*replace))
    return "small.toml"


@pytest.mark.slow  # by default on one backend, by a signal
def test_killed_in_two_epochs(small):
    """In all bits: weights, statistics, averages, optimizer, metrics."""
    whole = prepare("whole", SETTINGS)
    untrained = [keras.ops.convert_to_numpy(v).copy() for v in whole.model.trainable_variables]
    run.fit(whole)
    for start, v in zip(untrained, whole.model.trainable_variables, strict=True):
        assert np.abs(start - keras.ops.convert_to_numpy(v)).max() > 0, v.path

    class Killed(BaseException):
        pass

    def kill():
        raise Killed

    for epoch, step in ((0, 1), (1, 2)):
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
    assert one == other and "val_mean_iou" in one


@once  # the rest of it is the same on every backend
def test_killed_by_a_signal(small):
    whole = prepare("whole", SETTINGS)
    run.fit(whole)
    die(SETTINGS, 1, 1)
    check_the_same(whole)


@once
def test_the_loss_and_the_weights_of_classes_are_the_recipes(small):
    settings = [
        "train.loss=cross_entropy+dice",
        "train.class_weights=balanced",
        "train.average=all",
    ]
    job = run.prepare(small, settings, "run")
    given = job.model._compiled.given
    counts = job.splits.train.labels.counts.sum(axis=0)
    assert given["loss"] == ["cross_entropy", "dice"] and given["average"] == "all"
    assert given["class_weights"] == balanced(counts)
    np.testing.assert_allclose(np.array(given["class_weights"]) * counts, counts.sum() / 3)
    assert balanced(np.array([5, 0, 15])) == [2.0, 0.0, 20 / 15 / 2]
    assert job.model.get_compile_config()["class_weights"]


@once
def test_statistics_under_accumulation_move_once_an_update():
    layer = keras.layers.BatchNormalization(momentum=0.9)
    model = keras.Sequential([keras.Input((2,)), layer])
    average_over_updates(model, 3)
    x = np.full((4, 2), 5.0, "float32")
    for _ in range(3):
        model(x, training=True)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.moving_mean), 0.5, rtol=1e-5)
    average_over_updates(model, 1)
    assert layer.momentum == pytest.approx(0.9 ** (1 / 3))


def frozen(source="encoder.keras"):
    """The recipe with a frozen encoder of a source."""
    text = Path("small.toml").read_text()
    start, end = text.index("[model.encoder]"), text.index("[data]")
    tuned = f'[finetune]\nsource = "{source}"\ntrain = "head"\nhead = "fitted"\n\n'
    Path("small.toml").write_text(text[:start] + tuned + text[end:])


def test_a_frozen_encoder_computes_its_features_once(small, capsys):
    shape = dict(image_size=16, patch_size=4, num_classes=None)
    encoder = tiny_vit(**shape, preprocessor=keras_vit.Preprocessor(16))
    randomize(encoder)
    encoder.save("encoder.keras")
    frozen()
    job = run.prepare(small, run_dir="run")
    said = capsys.readouterr().out
    assert "decoder: fitted to the features of 36 windows" in said  # nine pictures, four each
    share = float(said.split("mean IoU ")[1].split(" %")[0])
    assert share > 40  # of random features; a class alone gives less than 30
    loaded = {w.path: w for w in encoder.weights}
    same = [w for w in job.model.weights if w.path in loaded]
    assert len(same) > 10
    for weight in same:
        one, other = (keras.ops.convert_to_numpy(x) for x in (weight, loaded[weight.path]))
        np.testing.assert_array_equal(one, other, err_msg=weight.path)
    heads = {v.path.partition("/")[0] for v in job.model.trainable_variables}
    assert heads == {"decoder", "auxiliary_head0"}
    # Cut in two, the model computes the same.
    features, decoder = parts(job.model)
    x = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    maps = features(x)
    maps = maps if isinstance(maps, (list, tuple)) else [maps]
    blank = keras.ops.zeros_like(x)
    two = keras.ops.convert_to_numpy(decoder((*maps, blank)))
    one = keras.ops.convert_to_numpy(job.model(x))
    np.testing.assert_allclose(two, one, atol=1e-5)


@once
def test_a_model_is_what_its_recipe_says(small, monkeypatch):
    job = run.prepare(small, ["model.decoder=mla", "model.encoder=ViTTiny"], "mla")
    assert job.model.output.shape == (None, 16, 16, 3) and job.model.takes_pixels
    whole = keras_vit.SETR(tiny_vit(num_classes=None, include_preprocessing=True), "pup")
    with monkeypatch.context() as patch:  # a whole model of the task, not an encoder
        patch.setattr(keras_vit, "from_pretrained", lambda *_, **__: whole)
        table = recipe.read(Path(small), ["model.decoder=pup", "finetune.source=x"])
        table.model.arguments.clear()
        table.model.arguments.update(decoder="pup", decoder_width=256)
        assert of(table).build(table, None) is whole
        table.model.arguments["decoder"] = "naive"
        with pytest.raises(
            ValueError, match=r"model\.decoder must be that of finetune\.source, pup"
        ):
            of(table).build(table, None)
    with pytest.raises(ValueError, match=r"left out: it is for task\.kind='classification'"):
        run.prepare(small, ["augment.mixup=0.2"], "no")
    with pytest.raises(ValueError, match=r"model\.variant must be a model of task\.kind="):
        tables = {"task": {"kind": "segmentation"}, "model": {"variant": "ViTTiny"}}
        others = {"optimizer": {"learning_rate": 0.1}, "train": {"epochs": 1, "batch_size": 1}}
        recipe.of_tables({**tables, **others, "data": {"source": "folder:x"}})
    with pytest.raises(ValueError, match=r"train\.loss must be left out.*this is 'classification'"):
        run.prepare("digits", ["train.loss=dice"], "no")
    with pytest.raises(ValueError, match=r"model\.num_classes.*label 2 in .*\.png"):
        run.prepare(small, ["model.num_classes=2"], "no")


@once
def test_measures_of_pixels():
    rng = np.random.default_rng(0)
    counts, labels, found = Counts(4), [], []
    for _ in range(30):
        labels.append(rng.choice([0, 1, 2, 255], (5, 6)))
        found.append(
            np.where(rng.random((5, 6)) < 0.6, labels[-1] % 255, rng.integers(0, 3, (5, 6)))
        )
        counts.add(labels[-1], found[-1])
    measured = counts.measure()
    metric = keras_vit.metrics.MeanIoU(4)
    metric.update_state(np.stack(labels), np.stack(found))
    np.testing.assert_array_equal(measured.confusion, metric.confusion)
    assert measured.mean_iou == pytest.approx(float(metric.result()), rel=1e-6)
    assert np.isnan(measured.iou[3]) and measured.numbers()["class_iou"][3] is None
    # The interval covers the mean, and is as wide as the spread of pictures makes it.
    low, high = measured.interval
    spread = measured.of_pictures.std() / np.sqrt(30)
    assert low < measured.mean_iou < high and 2 * spread < high - low < 6 * spread
    assert measured.interval == counts.measure().interval  # it is drawn from a seed
    right = np.concatenate([x[x < 3] == y[x < 3] for x, y in zip(labels, found, strict=True)])
    assert measured.pixel_accuracy == pytest.approx(right.mean())
    most = np.bincount(np.concatenate([x[x < 255] for x in labels])).max() / len(right)
    assert measured.majority == pytest.approx(most / 3)
    with pytest.raises(ValueError, match="There must be labelled pixels"):
        Counts(2).measure()


@once
def test_the_report_of_a_run_and_evaluations(small, capsys, monkeypatch):
    exported = SimpleNamespace(max_difference=0.0)
    monkeypatch.setattr(finish.keras_vit, "export", lambda *_, **__: exported)
    job = run.prepare(small, ["train.epochs=1"], "run")
    result = run.execute(job)
    assert result == json.loads(Path("run/result.json").read_text())
    assert result["test_images"] == 4 and len(result["test_class_iou"]) == 3
    assert 0 <= result["test_interval"][0] <= result["test_mean_iou"] <= result["test_interval"][1]
    text = Path("run/report.md").read_text()
    assert text.startswith(f"# run: mean IoU {100 * result['test_mean_iou']:.2f} % (")
    assert "| class | IoU | Dice | accuracy | share of the pixels |" in text
    for name in ("confusion.png", "worst.png"):
        assert f"({name})" in text
        assert min(Image.open(Path("run") / name).size) > 300
    assert of(job.recipe).summary({**result, "epochs": 1}).startswith("Test mean IoU ")
    assert recipe.read_of_run(Path("run/recipe.toml")).task.kind == "segmentation"
    assert os.path.getsize("run/examples.npz")
    capsys.readouterr()
    check_evaluations(result, capsys, monkeypatch)


def check_evaluations(result, capsys, monkeypatch):
    """Of the run in the folder "run", of its model on other pictures, and bad input."""
    given = []
    segment = keras_vit.SETR.segment

    def noted(model, pictures, **how):
        given.append(how)
        return segment(model, pictures, **how)

    monkeypatch.setattr(keras_vit.SETR, "segment", noted)
    assert evaluate.main(["run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for key in ("mean_iou", "interval", "class_iou", "pixel_accuracy"):
        assert found[key] == pytest.approx(result[f"test_{key}"]), key
    assert given[0]["window"] == "slide" and given[0]["scales"] == (1.0,)
    assert given[0]["batch_size"] == 8
    other = f"folder:{os.getcwd()}/scenes"
    words = ["run/model.keras", "--source", other, "--split", "train"]
    how = ["--flip", "--scales", "0.5", "1", "--stride", "8", "--window", "slide"]
    assert evaluate.main([*words, *how]) == 0
    assert "on 12 pictures of 3 classes" in capsys.readouterr().out
    assert given[-1]["flip"] is True and given[-1]["scales"] == (0.5, 1.0)
    assert given[-1]["stride"] == 8
    for more, said in (
        (["run", "--labels", "order"], "--labels is for models that classify"),
        (["run", "--reduce-zero-label"], "leave --reduce-zero-label out"),
        (["run/model.keras"], "--source is needed"),
        (["run", "--split", "no"], "--split must be one of train"),
    ):
        assert evaluate.main(more) == 2
        assert said in capsys.readouterr().err
    tiny_vit(include_preprocessing=True).save("vit.keras")
    assert evaluate.main(["vit.keras", "--source", other, "--flip"]) == 2
    assert "--flip is for models that segment" in capsys.readouterr().err
