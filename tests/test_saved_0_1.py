"""What version 0.1 saved, on each backend, is loaded: tests/golden/make_saved_0_1.py."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
import training.cnn  # noqa: F401  # registers its class
from keras_vit.checkpoints.readers.open import open_file
from tests import saved
from tests.helpers import backends, once, once_but, to_numpy

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests/golden/saved_0_1"
BACKEND = keras.backend.backend()
WRITERS = ["tensorflow", "jax", "torch"]
with zipfile.ZipFile(GOLDEN / "torch.zip") as archive:
    EXPECTED = json.loads(archive.read("expected.json"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Function from a backend to the `Saved` that was written on it."""
    found = {}

    def of(writer):
        if writer not in found:
            folder = tmp_path_factory.mktemp(writer)
            found[writer] = saved.Saved(GOLDEN / f"{writer}.zip", folder)
        return found[writer]

    return of


def by_backend(names, *readers):
    """(writer, name): what a backend wrote it reads itself, and the `readers` do too."""
    return [
        pytest.param(writer, name, marks=backends(writer, *readers), id=f"{writer}-{name}")
        for writer in WRITERS
        for name in names
    ]


# Models in 16 bits round differently on every backend and CPU.
TOLERANCE = {"float32": 1e-4, "mixed_float16": 1e-2, "mixed_bfloat16": 6e-2}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", EXPECTED["families"])
def test_a_model_gives_the_logits_that_it_gave(written, writer, name):
    files = written(writer)
    expected = files.expected["families"][name]
    model = keras.models.load_model(files.folder / f"families/{name}.keras")
    logits = saved.outputs(model, files.pixels, expected["normalized"])
    tolerance = TOLERANCE[model.dtype_policy.name]
    np.testing.assert_allclose(logits, expected["logits"], rtol=tolerance, atol=tolerance)
    if "facts" in expected:
        assert saved.facts(model) == expected["facts"]


# What a later version registers is in the files of that version.
@once
def test_every_class_that_was_registered_is_found_after_importing_the_library_alone(
    written, tmp_path
):
    """All is loaded in a fresh process, which imports nothing else."""
    program = """
import json, sys
import keras, keras_vit
names, *files = json.load(open(sys.argv[1]))
for name in names:
    assert keras.saving.get_registered_object(f"keras_vit>{name}") is not None, name
for file in files:
    keras.models.load_model(file)
assert not any(name.split(".")[0] in ("training", "tests") for name in sys.modules)
print("loaded", len(files))
"""
    names = EXPECTED["registered"]
    files = [
        str(path)
        for writer in WRITERS
        for path in sorted(written(writer).folder.glob("[fc]*/*.keras"))
        if path.name != "small_cnn.keras"  # training's own
    ]
    (tmp_path / "files.json").write_text(json.dumps([names, *files]))
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "files.json")],
        env={**os.environ, "KERAS_BACKEND": BACKEND},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert f"loaded {len(files)}" in done.stdout, done.stderr
    assert len(files) == len(WRITERS) * (len(EXPECTED["families"]) - 1 + len(EXPECTED["compiled"]))


def check_next_losses(model, expected, writer):
    losses = saved.next_losses(model)
    half = model.dtype_policy.name != "float32"
    tolerance = 1e-2 if half else 1e-5 if writer == BACKEND else 1e-4
    np.testing.assert_allclose(losses, expected["losses"], rtol=tolerance)
    if "scalars" in expected:
        found = saved.scalars(model)
        assert list(found.values()) == pytest.approx(list(expected["scalars"].values()))


@pytest.mark.parametrize(("writer", "name"), by_backend(EXPECTED["compiled"], "torch"))
def test_training_goes_on(written, writer, name):
    """The next losses are those of the version that saved it: all of the optimizer is there."""
    files = written(writer)
    model = keras.models.load_model(files.folder / f"compiled/{name}.keras")
    check_next_losses(model, files.expected["compiled"][name], writer)


def forget_iterations(optimizer):
    optimizer.iterations.assign(0)


def forget_average(optimizer):
    for average, variable in zip(
        optimizer._model_variables_moving_average, optimizer._trainable_variables, strict=True
    ):
        average.assign(keras.ops.copy(variable))


def forget(name):
    def change(optimizer):
        for variable in optimizer.variables:
            if name in variable.path and variable.shape != ():
                variable.assign(keras.ops.zeros_like(variable))

    return change


def forget_scale(optimizer):
    optimizer.dynamic_scale.assign(optimizer.initial_scale)


def forget_accumulated(optimizer):
    for variable in optimizer._accumulated_gradients:
        variable.assign(keras.ops.zeros_like(variable))


@once
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("adamw", forget_iterations),
        ("adamw", forget("momentum")),
        ("adamw", forget("velocity")),
        ("layerwise", forget_iterations),
        ("layerwise", forget("momentum")),
        ("muon", forget("momentum")),
        ("loss_scale", forget_scale),
        ("loss_scale", forget("velocity")),
        ("ema", forget_average),
        ("accumulation", forget_accumulated),
        ("lora", forget("velocity")),
    ],
)
def test_a_lost_state_is_noticed(written, name, change):
    """`check_next_losses` is no weaker than it says."""
    files = written("torch")
    model = keras.models.load_model(files.folder / f"compiled/{name}.keras")
    change(model.optimizer)
    with pytest.raises(AssertionError):
        check_next_losses(model, files.expected["compiled"][name], "torch")


@pytest.mark.parametrize(("writer", "name"), by_backend(["distiller"], "torch"))
def test_a_distiller_goes_on(written, writer, name):
    folder = written(writer).folder / name
    student = keras.models.load_model(folder / "student.keras")
    teacher = keras.models.load_model(folder / "teacher.keras")
    model = keras_vit.Distiller(student, teacher, kind="soft", temperature=2.0, alpha=0.3)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    model.compile(keras.optimizers.Adam(2e-2), loss)
    model.optimizer.build(model.trainable_variables)
    model.load_weights(folder / "distiller.weights.h5")
    check_next_losses(model, written(writer).expected[name], writer)


@pytest.mark.parametrize(("writer", "name"), by_backend(["vit", "swin_v2", "hybrid_of_a_cnn"]))
def test_a_file_of_weights(written, writer, name):
    folder = written(writer).folder
    model = keras.models.load_model(folder / f"families/{name}.keras")
    loads = [lambda twin, path: twin.load_weights(path)]
    # In 0.1 keras_vit.load_weights takes the names of a hybrid of somebody's CNN for a ViT's.
    loads += [keras_vit.load_weights] if name != "hybrid_of_a_cnn" else []
    for load in loads:
        twin = type(model).from_config(model.get_config())
        load(twin, folder / f"weights/{name}.weights.h5")
        for weight, other in zip(model.weights, twin.weights, strict=True):
            if "seed" not in weight.path:
                np.testing.assert_array_equal(to_numpy(other), to_numpy(weight), weight.path)


def tensors(folder):
    reader = open_file(folder / "model.safetensors")
    found = {name: reader.read(name) for name in reader.tensors}
    reader.close()
    return found


# NumPy reads and writes the files; what a backend adds it adds to the first of them too.
@pytest.mark.parametrize("name", once_but(list(EXPECTED["pretrained"]), "vit_hf"))
def test_a_folder_for_another_library_is_written_again_alike(written, name, tmp_path):
    files = written("torch")
    folder, expected = files.folder / f"pretrained/{name}", files.expected["pretrained"][name]
    model = keras_vit.from_pretrained(folder, class_names=expected["facts"]["class_names"])
    found = saved.facts(model)
    # The other library crops its own way, in whole pixels; the files written again have all of it.
    assert (found.pop("preprocessor") is None) == (expected["facts"]["preprocessor"] is None)
    assert found == {k: v for k, v in expected["facts"].items() if k != "preprocessor"}
    logits = saved.outputs(model, files.pixels, True)
    np.testing.assert_allclose(logits, expected["logits"], rtol=1e-4, atol=1e-4)

    again = keras_vit.save_pretrained(model, tmp_path / "again", name.rpartition("_")[2])
    assert {x.name for x in again.iterdir()} == {x.name for x in folder.iterdir()}
    for path in folder.glob("*.json"):
        config, original = (json.loads(x.read_text()) for x in (again / path.name, path))
        for found in (config, original):  # where LayerScale begins, which weights do not tell
            found.get("model_args", {}).pop("init_values", None)
        assert config == original
    ours, theirs = tensors(again), tensors(folder)
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        assert ours[key].dtype == value.dtype
        np.testing.assert_array_equal(ours[key], value, err_msg=key)
