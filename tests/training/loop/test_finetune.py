"""Runs that start from somebody's weights."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import backends, once, randomize, tiny_vit, to_numpy
from training import recipe
from training.loop import fit, run
from training.recipe.model_schema import FinetuneTable, ModelTable

ARGUMENTS = dict(
    image_size=16,
    patch_size=4,
    width=16,
    depth=2,
    num_heads=2,
    mlp_dim=32,
    num_channels=1,
    num_classes=7,
)


@pytest.fixture
def source(tmp_path):
    """A checkpoint of the small recipe's shape for other classes and another size."""
    preprocessor = keras_vit.Preprocessor(16, "squash", 1.0, mean=(0.4,), std=(0.2,))
    model = tiny_vit(
        num_classes=7,
        image_size=16,
        patch_size=4,
        num_channels=1,
        layer_scale=0.5,
        preprocessor=preprocessor,
    )
    randomize(model)
    return keras_vit.save_pretrained(model, tmp_path / "source", "timm"), model


def settings(folder, *more):
    return [f"finetune.source={folder}", "model.num_heads=2", "train.epochs=1", *more]


def test_weights_are_loaded_positions_resampled_and_the_head_is_new(small, source):
    folder, old = source
    job = run.prepare(small, settings(folder), "run")
    config = job.model.get_config()
    assert config["layer_scale"] is not None  # which only the source says
    new, before = job.model, {w.path: to_numpy(w) for w in old.weights}
    for weight in new.weights:
        if not weight.path.startswith(("head", "position")) and "seed" not in weight.path:
            np.testing.assert_array_equal(to_numpy(weight), before[weight.path], weight.path)
    expected = keras_vit.layers.resample_grid(before["position_embedding/grid"], (2, 2), "timm")
    np.testing.assert_allclose(
        to_numpy(new.get_layer("position_embedding").grid), to_numpy(expected), atol=1e-6
    )
    pixels = np.full((1, 8, 8, 1), 100.0, "float32")
    normalised = keras.Model(new.input, new.get_layer("preprocessing").output)(pixels)
    np.testing.assert_allclose(to_numpy(normalised), (100 / 255 - 0.4) / 0.2, atol=1e-5)


def test_a_bare_file_borrows_the_preprocessing_of_the_catalogue(source, capsys):
    """Without `like` it is said to have none before training starts, not after."""
    folder, model = source
    table = ModelTable("VisionTransformer", {**ARGUMENTS, "layer_scale": 0.5})
    bare = folder / "model.safetensors"
    (folder / "config.json").unlink()
    table.build("float32", FinetuneTable(str(bare)))
    assert "makes -1..1 of pixels 0..255" in capsys.readouterr().out
    like = FinetuneTable(str(bare), like="deit_tiny_patch16_224.fb_in1k")
    found = table.build("float32", like).preprocessor
    np.testing.assert_allclose(found.mean, [np.mean(keras_vit.preprocessing.IMAGENET_MEAN)])
    assert "preprocessing" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="finetune.source must be set beside like"):
        FinetuneTable(like="deit_tiny_patch16_224.fb_in1k")


def test_a_linear_probe_trains_the_head_alone_and_can_be_resumed(small, source):
    folder, _ = source
    plan = settings(folder, "finetune.train=head", "optimizer.warmup_steps=0")
    job = run.prepare(small, plan, "run")
    before = {w.path: to_numpy(w) for w in job.model.weights if "seed" not in w.path}
    run.fit(job)
    changed = {p for p, x in before.items() if np.abs(_value(job.model, p) - x).max() > 0}
    assert changed == {"head/dense/kernel", "head/dense/bias"}
    assert "layer_scale" not in recipe.read(job.folder.recipe).model.arguments
    again = run.prepare(small, ["train.epochs=2"], "run", resume=True)
    assert again.done["epochs"] == 1
    assert {v.path for v in again.model.trainable_variables} == changed
    for path in before:
        np.testing.assert_array_equal(_value(again.model, path), _value(job.model, path))


# With an average the file has one model and training goes on with another, so it says more.
@pytest.mark.parametrize(
    "average",
    [pytest.param("0", marks=once), pytest.param("0.9", marks=backends("torch", "tensorflow"))],
)
def test_lora_trains_few_weights_and_can_be_resumed(small, source, average):
    folder, old = source
    lora = ["finetune.train=lora", "finetune.lora_rank=2", f"optimizer.ema={average}"]
    plan = settings(folder, *lora, "train.epochs=3", "model.remat=true")
    whole = run.prepare(small, plan, "whole")
    trained = {v.path for v in whole.model.trainable_variables}
    assert trained == {"head/dense/kernel", "head/dense/bias"} | {
        f"block0{i}/attention/{name}/lora_kernel_{x}"
        for i in range(2)
        for name in ("qkv", "proj")
        for x in "ab"
    }
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 1)).astype("float32")
    run.fit(whole)
    ours = to_numpy(whole.model(pixels))
    for weight in old.weights:  # what was published is as it was
        if weight.path.startswith("block") and "seed" not in weight.path:
            np.testing.assert_array_equal(_value(whole.model, weight.path), to_numpy(weight))

    # The file has the updates in its matrices, so anybody can load it.
    loaded = keras.models.load_model(whole.folder.checkpoint)
    assert not any("lora" in weight.path for weight in loaded.weights)
    np.testing.assert_allclose(to_numpy(loaded(pixels)), ours, atol=1e-4)

    # A run that is stopped after an epoch goes on with the updates, not with nothing.
    class Stop(fit.Checkpoint):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if epoch == 0:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit, "Checkpoint", Stop)
        run.fit(run.prepare(small, plan, "stopped"))
    resumed = run.prepare(small, run_dir="stopped", resume=True)
    run.fit(resumed)
    np.testing.assert_allclose(to_numpy(resumed.model(pixels)), ours, rtol=1e-4, atol=1e-5)


def test_another_variant_than_the_source_is_refused(small, source):
    text = Path(small).read_text()
    Path("deep.toml").write_text(text.replace("depth = 2\n", ""))  # 12 by default
    with pytest.raises(ValueError, match="which has depth=2. Received: .*with depth=12"):
        run.prepare("deep.toml", settings(source[0]), "run")


def _value(model, path):
    (weight,) = [w for w in model.weights if w.path == path]
    return to_numpy(weight)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["finetune.train=body"], "finetune.train must be one of all, head, lora"),
        (["finetune.source=", "finetune.train=head"], "finetune.source must be set"),
        (["finetune.source=nobody_has_this"], "no such checkpoint"),
        (["model.mlp=swiglu"], "does not fit block00/mlp/fc1"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(small, source, overrides, message):
    with pytest.raises(ValueError, match=message):
        run.prepare(small, settings(source[0], *overrides), "run")
