"""Writes saved_0_1/: what version 0.1.0 saved on each backend, and what it said of it.

Run once with that version (Keras 3.15.1), on one backend after the other:

    KERAS_BACKEND=tensorflow python -m tests.golden.make_saved_0_1
    KERAS_BACKEND=jax        python -m tests.golden.make_saved_0_1
    KERAS_BACKEND=torch      python -m tests.golden.make_saved_0_1

Each gives BACKEND.zip, an archive of the files as they were written, since HDF5 leaves most of a
small file empty; `expected.json` in it has the numbers. It is never made again: these files stand
for those that users have. What a later version adds lies beside it, in a saved_0_2 of its own.

- families/: a model of every class, with its logits.
- compiled/: models in the middle of a training, and the losses of the next steps.
- weights/: files .weights.h5 of some of the families.
- distiller/: student, teacher and the weights of the `Distiller` around them.
- pretrained/: folders of `save_pretrained`, which do not depend on the backend (torch.zip alone).
- runs/: run folders of `python -m training`, stopped within an epoch; what they come to unstopped;
  and one that is finished, without its pictures and its export.
"""

import json
import os
import shutil
import signal
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np

import keras_vit
from tests import saved
from tests.golden import saved_models
from tests.golden.saved_models import COMPILED, FAMILIES, IN_PIXELS, every_layer, pyramid
from tests.helpers import tiny_cait, tiny_hybrid, tiny_swin, tiny_vit
from training.__main__ import main as train
from training.loop import fit, run
from training.loop.checkpoint import Checkpoint
from training.loop.stopping import Stopped

TARGET = Path(__file__).parent / "saved_0_1"
BACKEND = keras.backend.backend()
RECIPE = f"""
[model]
variant = "VisionTransformer"
num_classes = 3
image_size = 8
num_channels = 1
patch_size = 4
width = 8
depth = 2
num_heads = 2
mlp_dim = 16
dropout_rate = 0.1
drop_path_rate = 0.2

[data]
source = "npz:data.npz"
validation = 0.25

[augment]
translate = 0.1

[optimizer]
learning_rate = 1e-2
weight_decay = 0.1
warmup_steps = 3
clip_norm = 1.0

[train]
epochs = 3
batch_size = 12
label_smoothing = 0.1
jit_compile = "{"off" if BACKEND == "tensorflow" else "auto"}"
"""
RUNS = {
    "plain": [],
    "average": ["optimizer.ema=0.75", "optimizer.layer_decay=0.8", "optimizer.accumulate=2"],
    "float16": ["train.precision=mixed_float16"],
}
KEPT = ["recipe.toml", "model.keras", "metrics.csv", "data.json", "result.json"]


class AskedToStop(Checkpoint):
    """SIGTERM in the second of three steps of the second epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 1 and batch == 1:
            self.asked = lambda: Stopped(signal.SIGTERM)
        super().on_train_batch_end(batch, logs)


def main():
    if keras_vit.__version__ != "0.1.0":
        raise SystemExit(f"This is for version 0.1.0. Received: {keras_vit.__version__}")
    archive = TARGET / f"{BACKEND}.zip"
    if archive.exists():
        raise SystemExit(f"These files are never made again. Received: {archive}")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in ("families", "compiled", "weights", "distiller", "runs", "pretrained"):
            Path(name).mkdir()
        pixels = np.random.default_rng(7).integers(0, 256, (2, 32, 32, 3), "uint8")
        np.save("pixels.npy", pixels)
        expected = {
            "families": families(pixels),
            "compiled": compiled(),
            "distiller": distiller(),
            "registered": sorted(saved_models.registered()),
        }
        runs()
        if BACKEND == "torch":
            expected["pretrained"] = pretrained(pixels)
        Path("expected.json").write_text(json.dumps(expected, indent=1))
        check_registered()
        write(archive)


def families(pixels):
    """Every family, and the functional model of every layer."""
    expected = {}
    for name, make in {**FAMILIES, "every_layer": every_layer}.items():
        keras.utils.set_random_seed(0)
        model = make()
        saved_models.fill(model)
        model.save(f"families/{name}.keras")
        normalized = name not in IN_PIXELS
        logits = saved.outputs(model, pixels, normalized).tolist()
        expected[name] = {"normalized": normalized, "logits": logits}
        if name != "every_layer":
            expected[name]["facts"] = saved.facts(model)
        if name in ("vit", "swin_v2", "hybrid_of_a_cnn"):
            model.save_weights(f"weights/{name}.weights.h5")
    return expected


def compiled():
    """Models after three steps of training."""
    expected = {}
    for name, (make, optimizer, loss) in COMPILED.items():
        keras.utils.set_random_seed(0)
        model = make()
        model.compile(optimizer(model), loss)
        before = saved.next_losses(model)
        model.save(f"compiled/{name}.keras")
        after = saved.next_losses(model)
        expected[name] = {"before": before, "losses": after, "scalars": saved.scalars(model)}
    return expected


def distiller():
    """After three steps of its training; the teacher is training's own CNN."""
    keras.utils.set_random_seed(0)
    student = saved_models.small(distillation_token=True, depth=1)
    teacher = saved_models.SmallCNN(num_classes=3, image_size=16, widths=(4,))
    saved_models.fill(teacher)
    model = keras_vit.Distiller(student, teacher, kind="soft", temperature=2.0, alpha=0.3)
    model.compile(keras.optimizers.Adam(2e-2), saved_models.CROSSENTROPY)
    saved.next_losses(model)
    model.save("distiller/student.keras")
    teacher.save("distiller/teacher.keras")
    model.save_weights("distiller/distiller.weights.h5")
    return {"losses": saved.next_losses(model)}


def pretrained(pixels):
    """Every family in every format that it can be written in."""
    both = saved_models.preprocessor(16, convention="transformers")
    four = dict(
        image_size=32,
        depths=(1, 1, 1, 1),
        widths=(4, 4, 8, 8),
        num_heads=(1, 1, 2, 2),
        mlp_ratios=(2, 2, 1, 1),
        reductions=(4, 2, 1, 1),
    )
    first, others = (4, 2, 2, 2), (7, 3, 3, 3)
    models = {
        "vit": tiny_vit(image_size=16, preprocessor=both, class_names=saved_models.NAMES),
        "deit": tiny_vit(distillation_token=True),
        "dinov2": tiny_vit(layer_scale=0.1, pooling="token_gap", mlp="swiglu"),
        "registers": tiny_vit(
            layer_scale=0.1,
            num_registers=2,
            num_classes=None,
            position_embedding="learned_patches",
        ),
        "siglip": tiny_vit(pooling="map", num_classes=None, mlp="gelu_tanh"),
        "clip": tiny_vit(pre_norm=True, patch_bias=False, num_classes=None, mlp="quick_gelu"),
        "cait": tiny_cait(),
        "hybrid": tiny_hybrid(
            image_size=32, stem_depths=(), stem_width=64, stem_groups=32, convention="timm"
        ),
        "swin": tiny_swin(preprocessor=saved_models.preprocessor(32), convention="timm"),
        "swin_v2": tiny_swin(version=2, class_names=saved_models.NAMES),
        "pvt": pyramid(1, **four, patch_sizes=first, conv_norm_epsilon=1e-6),
        "pvt_v2": pyramid(2, **four, patch_sizes=others, strides=first),
        "pvt_v2_one_epsilon": pyramid(
            2, **four, patch_sizes=others, strides=first, conv_norm_epsilon=1e-6
        ),
    }
    expected = {}
    for name, model in models.items():
        saved_models.fill(model)
        for format in ("hf", "timm"):
            folder = Path(f"pretrained/{name}_{format}")
            try:
                keras_vit.save_pretrained(model, folder, format)
            except ValueError as error:
                print(f"{folder}: {error}")
                continue
            logits = saved.outputs(model, pixels, True).tolist()
            expected[folder.name] = {"facts": saved.facts(model), "logits": logits}
    return expected


def runs():
    """Run folders: each once to its end, once stopped within an epoch."""
    rng = np.random.default_rng(3)
    labels = np.arange(64) % 3
    images = rng.integers(0, 128, (64, 8, 8, 1)) + 60 * labels[:, None, None, None]
    images, labels = images.astype("uint8"), labels.astype("uint8")
    np.savez_compressed(
        "data.npz",
        train_images=images[:48],
        train_labels=labels[:48],
        test_images=images[48:],
        test_labels=labels[48:],
    )
    Path("recipe.toml").write_text(RECIPE)
    for name, overrides in RUNS.items():
        whole = run.prepare("recipe.toml", overrides, f"whole-{name}")
        run.fit(whole)
        fit.Checkpoint = AskedToStop
        try:
            run.execute(run.prepare("recipe.toml", overrides, f"runs/{name}"))
        except Stopped:
            fit.Checkpoint = Checkpoint
        weights = {v.path: keras.ops.convert_to_numpy(v) for v in whole.model.weights}
        np.savez_compressed(f"runs/{name}.npz", **weights)
        shutil.copyfile(f"whole-{name}/metrics.csv", f"runs/{name}.csv")
    assert train(["recipe.toml", "--run-dir", "runs/finished"]) == 0
    for path in Path("runs/finished").iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in Path("runs").glob("*/best.keras"):
        path.unlink()


def check_registered():
    """Everything that the library registers is in the configuration of some file."""
    text = ""
    for path in Path().rglob("*.keras"):
        with zipfile.ZipFile(path) as file:
            text += file.read("config.json").decode()
    names = saved_models.registered()
    missing = [x for x in names if f'"registered_name": "keras_vit>{x}"' not in text]
    assert not missing, f"every registered class must be in a file; missing: {missing}"


def write(archive):
    TARGET.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as file:
        for path in sorted(x for x in Path().rglob("*") if x.is_file()):
            if not path.parts[0].startswith("whole-"):
                file.write(path)


if __name__ == "__main__":
    main()
