"""What somebody does who has installed the package: run by `python -m tests.fresh` in a new folder.

Import, list, predict, fine-tune, save, export, train. What the installed extras do not bring is an
error that names the extra.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import keras_vit
from keras_vit.export.formats import FORMATS

BACKEND = os.environ["KERAS_BACKEND"]
HERE = Path(BACKEND)
TRAINING = ("tensorflow", "sklearn", "tensorflow_datasets", "tomli_w", "matplotlib")
COMMAND = Path(sys.executable).with_name("keras-vit")


def has(*modules):
    return all(importlib.util.find_spec(x) for x in modules)


def command(*arguments, code=0):
    """What `keras-vit ARGUMENTS` prints, errors too."""
    done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{said}"
    return said


def new_process(code):
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)


def step(text):
    print(f"{BACKEND}: {text}", flush=True)


def main():
    HERE.mkdir(exist_ok=True)
    assert Path(keras_vit.__file__).is_relative_to(sys.prefix), keras_vit.__file__
    import keras

    assert keras.backend.backend() == BACKEND
    step(f"import: keras_vit {keras_vit.__version__}, keras {keras.__version__}")

    models, checkpoints = len(keras_vit.list_models()), len(keras_vit.list_checkpoints())
    assert models == 44 and checkpoints > 300
    assert "vit_tiny" in command("list", "ViTTiny") and "SwinTiny" in command("show", "swintiny")
    step(f"list: {models} models, {checkpoints} checkpoints")

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 100, (64, 32, 32, 3)).astype("uint8")
    labels = np.arange(64) % 2
    pictures[labels == 1] += 100
    model = keras_vit.ViTTiny(
        image_size=32,
        patch_size=8,
        depth=2,
        num_classes=2,
        class_names=["dark", "light"],
        preprocessor=keras_vit.Preprocessor(32),
        include_preprocessing=True,
    )
    Image.fromarray(pictures[0]).save(HERE / "dark.png")
    ((first, second),) = model.predict_images([HERE / "dark.png"])
    assert {first[0], second[0]} == {"dark", "light"}
    step("predict")

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3), loss, metrics=["accuracy"])
    history = model.fit(pictures, labels, epochs=5, batch_size=16, verbose=0).history
    assert history["accuracy"][-1] > 0.9, history
    assert model.predict_images([HERE / "dark.png"])[0][0][0] == "dark"
    step(f"fine-tune: accuracy {history['accuracy'][-1]:.2f}")

    model.save(HERE / "model.keras")
    keras_vit.save_pretrained(model, HERE / "saved", "keras")
    np.save(HERE / "pictures.npy", pictures)
    np.save(HERE / "logits.npy", model.predict(pictures, verbose=0))
    new_process(
        "import keras_vit, keras, numpy as np\n"
        f"x, y = np.load('{HERE}/pictures.npy'), np.load('{HERE}/logits.npy')\n"
        f"for model in (keras.models.load_model('{HERE}/model.keras'),\n"
        f"    keras_vit.from_pretrained('{HERE}/saved', include_preprocessing=True)):\n"
        "    assert abs(model.predict(x, verbose=0) - y).max() < 1e-4"
    )
    assert "dark" in command("predict", HERE / "dark.png", "--model", HERE / "saved")
    step("save, and load in another process")

    for name, format in FORMATS.items():
        path = HERE / f"{name}{format.suffix}"  # its labels lie beside it
        if has(*format.packages):
            report = keras_vit.export(model, path, inputs="pixels", samples=pictures)
            assert path.exists() and str(report)
            step(f"export: {name}")
        else:
            said = command("export", HERE / "saved", "-o", path, code=2)
            assert f"keras-vision-transformers[{format.extra}]" in said, said
            step(f"export: {name} names the extra {format.extra}")

    run = ("train", "digits", "--smoke", "--run-dir", HERE / "run")
    if has(*TRAINING):
        command(*run)
        assert "keras-vit train" in (HERE / "run" / "report.md").read_text()
        assert command("evaluate", HERE / "run", "--json").startswith("{")
        step("train, evaluate")
    else:
        said = command(*run, code=2)
        assert "keras-vision-transformers[training]" in said, said
        step("train names the extra training")


if __name__ == "__main__":
    main()
