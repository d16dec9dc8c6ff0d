"""Runs of masked pre-training: trained, killed, resumed, reported, used by other runs."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import once
from tests.training.kills import die, prepare, state
from training import evaluate, recipe
from training.loop import run
from training.results.folder import RunFolder
from training.tasks import masked

RECIPE = """\
[task]
kind = "masked"

[model]
variant = "{variant}"
image_size = 8
{own}

[model.encoder]
variant = "VisionTransformer"
num_channels = 1
patch_size = 2
width = 16
depth = 1
num_heads = 2
mlp_dim = 32

[data]
source = "digits"

[augment]
pad_crop = 1

[optimizer]
learning_rate = 3e-3

[train]
epochs = 2
batch_size = 256
"""
MAE = "decoder_width = 16\ndecoder_depth = 1\ndecoder_heads = 2"
SETTINGS = ["optimizer.ema=0.5", "train.checkpoint_steps=1"]


def write(variant="MAE", own=MAE):
    Path("small.toml").write_text(RECIPE.format(variant=variant, own=own))
    return "small.toml"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@once  # the states that it needs are those of dropout, which test_kill.py kills on every backend
def test_killed_by_a_signal_it_ends_with_the_same_bits_and_masks():
    write()
    whole = prepare("whole", SETTINGS)
    run.fit(whole)
    die(SETTINGS, 1, 2)
    resumed = prepare("killed")
    run.fit(resumed)
    for (path, one), (_, other) in zip(state(whole), state(resumed), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=path)
    one, other = (RunFolder(x).metrics.read_text() for x in ("whole", "killed"))
    assert one == other and "val_explained" in one


@once
def test_a_run_from_start_to_report_and_what_follows_it(capsys):
    job = run.prepare(write(), (), "run")
    model = job.model
    assert isinstance(model, keras_vit.MAE) and model.takes_pixels
    assert model.encoder.get_config()["depth"] == 1
    result = run.execute(job)
    report = RunFolder("run").report.read_text()
    assert "## Reconstructions" in report and "predictions.png" in report
    assert 0.1 < result["test_knn"] <= 1 and result["test_images"] == 359
    assert f"{result['test_loss']:.4f}" in report

    # the result again, by hand and by the command
    test = job.splits.test
    found = masked.measured(job.model, test, lambda x: x)
    assert abs(found.loss - result["test_loss"]) < 1e-5
    whole = job.model.evaluate(test.images, batch_size=masked.BATCH, verbose=0, return_dict=True)
    assert abs(whole["loss"] - result["test_loss"]) < 1e-4
    capsys.readouterr()
    assert evaluate.main(["run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert abs(said["loss"] - result["test_loss"]) < 1e-5 and said["images"] == 359
    assert abs(said["explained"] - result["test_explained"]) < 1e-5
    assert evaluate.main(["run", "--flip"]) == 2
    assert "is for models with classes" in capsys.readouterr().err

    # the export is the encoder
    assert (RunFolder("run").saved_model / "saved_model.pb").exists()
    # another run fine-tunes it, and another trains it on
    encoder = keras_vit.from_pretrained("run/model.keras", num_classes=10)
    np.testing.assert_array_equal(
        *(
            keras.ops.convert_to_numpy(x.get_layer("block00").mlp.fc1.kernel)
            for x in (encoder, job.model)
        )
    )
    text = RECIPE.format(variant="MAE", own="").partition("[model.encoder]")[0]
    rest = RECIPE[RECIPE.index("[data]") :]
    Path("on.toml").write_text(f'{text}\n[finetune]\nsource = "run/model.keras"\n\n{rest}')
    again = run.prepare("on.toml", (), "on").model
    np.testing.assert_array_equal(
        *(keras.ops.convert_to_numpy(x.get_layer("mask_token").token) for x in (again, job.model))
    )
    # a setting that no weight depends on is the recipe's, others are the source's
    other = ("model.mask_ratio=0.6", "train.precision=mixed_bfloat16")
    again = run.prepare("on.toml", other, "other").model
    assert again.get_config()["mask_ratio"] == 0.6
    assert again.get_layer("block00").compute_dtype == "bfloat16"
    with pytest.raises(ValueError, match=r"model\.decoder_width must be that of finetune"):
        run.prepare("on.toml", ("model.decoder_width=24",), "no")
    with pytest.raises(ValueError, match=r"model\.variant must be that of finetune\.source"):
        run.prepare("on.toml", ("model.variant=SimMIM",), "no")


@once
def test_simmim_and_its_encoder():
    job = run.prepare(write("SimMIM", "mask_unit = 4"), ("train.epochs=1",), "run")
    assert isinstance(job.model, keras_vit.SimMIM)
    run.fit(job)
    assert "explained" in RunFolder("run").metrics.read_text()


@once
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.kind=segmentation", "task.kind='segmentation'|left out"),
        ("model.mask_ratio=1.0", "mask_ratio must be"),
        ("augment.mixup=0.5", "augment.mixup must be left out"),
        ("finetune.head=fitted", "finetune.head must be left out|finetune.source"),
        ("train.label_smoothing=0.1", "train.label_smoothing must be left out"),
        ("augment.scale=[0.5, 2.0]", "augment.scale must be left out"),
    ],
)
def test_settings_that_do_not_fit(override, message):
    with pytest.raises(ValueError, match=message):
        run.prepare(write(), (override,), "run")


@once
@pytest.mark.parametrize("variant", ["SETR", "ViTTiny", "SmallCNN"])
def test_models_of_other_tasks_do_not_fit(variant):
    rest = RECIPE[RECIPE.index("[data]") :]
    Path("small.toml").write_text(
        f'[task]\nkind = "masked"\n[model]\nvariant = "{variant}"\n{rest}'
    )
    with pytest.raises(ValueError, match=f"a model of task.kind='masked'.*{variant}"):
        run.prepare("small.toml", (), "run")


@once
def test_labels_hold_out_and_judge_but_nothing_learns_from_them():
    plan = recipe.read(Path(write()))
    job = run.prepare("small.toml", (), "run")
    example = masked.training(plan, job.model)
    image, label = example(job.splits.train.images[0], 3, (0, 1))
    assert image.shape == (8, 8, 1) and label == 3
    images = job.splits.train.images[:8].astype("float32")
    one = job.model.test_on_batch(images, np.zeros(8))
    other = job.model.test_on_batch(images, np.ones(8))
    assert one[0] == other[0]
