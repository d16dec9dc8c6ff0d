"""A load that fails, however late, leaves every weight as it was; in every family."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.writing import write_safetensors
from tests.checkpoints.helpers import SOURCES, tensors
from tests.helpers import once_but, randomize, to_numpy

GOLDEN = Path(__file__).parent.parent / "golden"
POSITIONS = ("pos_embed", "position_embeddings", "relative_position_bias_table")
FIRST = ("patch_embed.proj.weight", "backbone.conv.weight", "embeddings.0.projection.weight")


def named(arrays, ends):
    """The first tensor whose name has one of these ends; a family without it gives its kernel."""
    found = [x for end in ends for x in sorted(arrays) if x.endswith(end)]
    return (found or [x for x in sorted(arrays) if x.endswith(".weight") and arrays[x].ndim == 4])[
        0
    ]


def last_vector(arrays):
    return [x for x in arrays if arrays[x].ndim == 1][-1]


def missing(arrays):
    del arrays[last_vector(arrays)]


def too_many(arrays):
    arrays["zzz.weight"] = np.ones(3, "float32")


def of_another_shape(arrays):
    name = last_vector(arrays)
    arrays[name] = arrays[name][:-1]


def not_a_number(arrays):
    name = last_vector(arrays)
    arrays[name] = np.where(np.arange(len(arrays[name])) == 0, np.float32("nan"), arrays[name])


def of_integers(arrays):
    name = last_vector(arrays)
    arrays[name] = arrays[name].astype("int64")


def without_channels(arrays):
    name = named(arrays, FIRST)
    arrays[name] = arrays[name][:, :0]


def of_another_width(arrays):
    name = named(arrays, FIRST)
    arrays[name] = np.concatenate([arrays[name], arrays[name]])


def of_no_grid(arrays):
    name = named(arrays, POSITIONS)
    axis = -2 if arrays[name].ndim < 4 else -1
    arrays[name] = np.delete(arrays[name], 0, axis)


CHANGES = [
    missing,
    too_many,
    of_another_shape,
    not_a_number,
    of_integers,
    without_channels,
    of_another_width,
    of_no_grid,
]


def broken_archive(path, arrays):
    """All arrays in an .npz whose last one is broken; only its checksum shows it."""
    np.savez(path, **arrays)
    data = bytearray(path.read_bytes())
    whole = arrays[list(arrays)[-1]].tobytes()
    at = data.rindex(whole[-64:])
    data[at] ^= 1
    path.write_bytes(data)


# Only the assignments depend on the backend: there one family does.
@pytest.mark.parametrize("family", once_but(list(SOURCES), "vit"))
def test_a_failed_load_changes_no_weight(family, tmp_path, monkeypatch):
    source = GOLDEN / SOURCES[family]
    model = keras_vit.from_pretrained(source)
    good = [to_numpy(weight) for weight in model.weights]
    randomize(model, seed=5)
    before = [to_numpy(weight) for weight in model.weights]

    def fails(file, error, message=None):
        with pytest.raises(error, match=message):
            keras_vit.load_weights(model, file)
        for weight, value in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(to_numpy(weight), value, err_msg=weight.path)

    for change in CHANGES:
        arrays = tensors(source)
        change(arrays)
        folder = tmp_path / change.__name__
        folder.mkdir()
        write_safetensors(folder / "model.safetensors", arrays, {})
        (folder / "config.json").write_bytes((source / "config.json").read_bytes())
        fails(folder, CheckpointError, "Received")
    other = SOURCES["cait" if family in ("vit", "deit") else "vit"]
    fails(GOLDEN / other, CheckpointError, "Received: model=")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((source / "config.json").read_bytes())
    broken_archive(broken / "model.npz", tensors(source))
    fails(broken, CheckpointError, "not a complete npz file.*CRC")

    # Interrupted at the last assignment, with all the others done.
    assign, count = keras.Variable.assign, 0

    def interrupted(self, value):
        nonlocal count
        count += 1
        if count == len(before):
            raise KeyboardInterrupt
        return assign(self, value)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Variable, "assign", interrupted)
        fails(source, KeyboardInterrupt)
    assert count == 2 * len(before)  # every weight there and back

    keras_vit.load_weights(model, source)  # and what is whole still fills it
    for weight, value in zip(model.weights, good, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), value, err_msg=weight.path)
