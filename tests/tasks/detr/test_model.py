"""DETR as a Keras model: positions, padding, backbones, training aids, files, bad arguments."""

import inspect
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.models import registry
from keras_vit.tasks.detr.positions import MapMask, SinePositions
from tests.helpers import images, once, once_but, randomize, run, tiny, tiny_vit, to_numpy
from tests.tasks.detr.helpers import batch, tiny_detr


def test_sine_positions_are_those_of_the_authors():
    """A map of 3 x 4 cells whose last row and column are padding, with 4 channels for each side."""
    valid = np.ones((1, 3, 4), bool)
    valid[:, 2], valid[:, :, 3] = False, False
    grid = ops.zeros((1, 3, 4, 8))
    found = to_numpy(SinePositions(8)(grid, valid=valid)).reshape(3, 4, 8)
    half, third = np.pi, 2 * np.pi / 3  # the first of two rows, of three columns
    expected = []
    for angle in (half, third):
        expected += [np.sin(angle), np.cos(angle), np.sin(angle / 100), np.cos(angle / 100)]
    np.testing.assert_allclose(found[0, 0], expected, atol=4e-6)
    of_source = [0.031411, 0.999507, 0.866025, -0.5, 0.020942, 0.999781]
    np.testing.assert_allclose(found[0, 0, 2:], of_source, atol=2e-6)
    # the padding of a map does not matter, and without a mask all of it is valid
    smaller = to_numpy(SinePositions(8)(ops.zeros((1, 2, 3, 8)))).reshape(2, 3, 8)
    np.testing.assert_allclose(found[:2, :3], smaller, atol=1e-6)


@pytest.mark.parametrize("size", [(7, 5), (100, 33), (64, 96)])
def test_the_mask_reaches_the_map_as_pytorch_resizes_it(size):
    """By floor(i * in / out); Keras takes the middle of a cell."""
    valid = np.random.default_rng(0).random((2, *size)) < 0.5
    h, w = -(-size[0] // 8), -(-size[1] // 8)
    found = ops.convert_to_numpy(MapMask()(valid, ops.zeros((2, h, w, 3))))
    rows, columns = (
        np.floor(np.arange(new, dtype="float32") * np.float32(old / new)).astype(int)
        for old, new in zip(size, (h, w), strict=True)
    )
    np.testing.assert_array_equal(found, valid[:, rows][:, :, columns])


@pytest.mark.parametrize("position_embedding", ["sine", "learned"])
def test_what_is_padding_reaches_no_query(position_embedding):
    """The transformer on a map of 3 x 4, and on the same in a corner of 5 x 6 cells of junk."""
    model = tiny_detr(encoder_depth=2, position_embedding=position_embedding)
    randomize(model)
    rng = np.random.default_rng(0)
    grid = rng.normal(size=(2, 3, 4, 16)).astype("float32")
    canvas = rng.normal(0, 9, (2, 5, 6, 16)).astype("float32")
    canvas[:, :3, :4] = grid
    mask = np.zeros((2, 5, 6), bool)
    mask[:, :3, :4] = True

    def outputs(x, mask=None):
        memory = model.encode(ops.convert_to_tensor(x), mask, training=False)
        return model.read_out(model.decode(*memory, training=False)[-1])

    alone, padded = outputs(grid), outputs(canvas, ops.convert_to_tensor(mask))
    for name in ("logits", "boxes"):
        np.testing.assert_allclose(to_numpy(padded[name]), to_numpy(alone[name]), atol=2e-5)
    unmasked = outputs(canvas)
    assert np.abs(to_numpy(unmasked["logits"]) - to_numpy(alone["logits"])).max() > 1e-2


def test_a_mask_of_pixels_that_are_all_valid_changes_nothing():
    model = tiny_detr()
    randomize(model)
    x = images()
    alone = run(model, x)
    valid = np.ones(x.shape[:3], bool)
    masked = run(model, {"images": x, "valid": valid})
    for name, value in alone.items():
        np.testing.assert_allclose(masked[name], value, atol=1e-5)
    assert alone["logits"].shape == (3, 7, 6) and alone["boxes"].shape == (3, 7, 4)
    assert alone["boxes"].min() > 0 and alone["boxes"].max() < 1


# Blocks that leave padding out, on padded sizes at which positions are the same: without learned
# positions nothing of a ViT depends on the padding.
@once
def test_a_vit_does_not_see_the_padding():
    model = tiny_detr(tiny_vit(position_embedding="sincos"))
    randomize(model)
    x = images()
    canvas = np.random.default_rng(1).normal(size=(3, 48, 40, 3)).astype("float32")
    canvas[:, :24, :16] = x
    valid = np.zeros(canvas.shape[:3], bool)
    valid[:, :24, :16] = True
    # fixed positions are centred on the grid: take them out of the comparison
    model.get_layer("position_embedding").call = lambda tokens, images=None: tokens
    alone = run(model, {"images": x, "valid": np.ones(x.shape[:3], bool)})
    padded = run(model, {"images": canvas, "valid": valid})
    for name, value in alone.items():
        np.testing.assert_allclose(padded[name], value, atol=2e-5)


@once
@pytest.mark.parametrize("family", registry.FAMILIES)
def test_any_backbone(family, tmp_path):
    backbone = tiny(family)
    randomize(backbone)
    size = tuple(backbone.input.shape[1:3])
    weights = {weight.path: to_numpy(weight) for weight in backbone.weights}
    model = tiny_detr(backbone)
    shared = [x for x in model.layers if x in backbone.layers]  # not copied
    assert shared and all(layer is backbone.get_layer(layer.name) for layer in shared)
    assert not any(weight.path.startswith("head/") for weight in model.weights)
    x, y = batch(size)
    model.compile("sgd")
    history = model.fit(x, y, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    moved = [not np.array_equal(to_numpy(v), weights[v.path]) for v in backbone.weights]
    assert sum(moved) >= 0.45 * len(moved)  # CaiT's class attention is not used
    larger, _ = batch(tuple(2 * side for side in size))  # padded images may have any size
    assert run(model, larger)["boxes"].shape == (3, 7, 4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for name, value in run(model, x).items():
        np.testing.assert_allclose(run(loaded, x)[name], value, atol=1e-6)


CASES = {
    "plain": {},
    "groups and denoising": {"query_groups": 2, "denoising": True},
    "groups": {"query_groups": 3},
    "learned positions, pairs": {
        "position_embedding": "learned",
        "num_heads": (2, 4),
        "mlp_dim": (24, 16),
        "mlp": "gelu",
    },
    "frozen": {"frozen_layers": ["block00", "encoder_block00/norm1", "queries"]},
    "names": {"class_names": list("abcde"), "class_ids": [1, 2, 3, 5, 8]},
    "no encoder": {"encoder_depth": 0, "decoder_depth": 1},
}


@pytest.mark.parametrize(
    "arguments",
    # the fewest operations, and all of what training adds
    once_but({k: (v,) for k, v in CASES.items()}, "groups and denoising"),
)
def test_contract(arguments, tmp_path):
    model = tiny_detr(**arguments)
    randomize(model)
    x, y = batch()
    expected = run(model, x)

    # the configuration is exactly the constructor's arguments
    config = model.get_config()
    assert set(config) == set(inspect.signature(type(model)).parameters)
    assert type(model)(**config).get_config() == config
    for key, value in arguments.items():
        assert config[key] == value
    json.dumps(config["backbone"])

    # in training there are the earlier blocks too, and nothing of it in a call without
    trained = model(x, training=True)
    assert len(trained["auxiliary"]) == config["decoder_depth"] - 1
    assert set(model(x)) == set(expected) == {"logits", "boxes"}
    for name, value in expected.items():
        np.testing.assert_allclose(to_numpy(trained[name]), value, atol=1e-5)

    # a step of training changes every weight that is not frozen
    model.compile("adam", jit_compile=keras.backend.backend() == "jax")
    before = {weight.path: to_numpy(weight) for weight in model.weights}
    model.fit(x, y, verbose=0)
    after = {weight.path: to_numpy(weight) for weight in model.weights}
    same = {path for path, value in after.items() if np.array_equal(value, before[path])}
    frozen = {weight.path for weight in model.non_trainable_weights}
    # in the first block every query attends to zeros, and the class token only has an effect on
    # other tokens; a constant added to all keys has none
    idle = {path for path in same if path.endswith("key/bias")}
    idle |= {
        f"decoder_block00/self_attention/{name}/{kind}"
        for name in ("query", "key", "value")
        for kind in ("kernel", "bias")
    }
    assert same - idle == {path for path in frozen if "seed" not in path}

    # a file restores everything, including the state of the optimizer and how it was compiled
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert json.dumps(loaded.get_config()) == json.dumps(config)
    for weight in loaded.weights:
        np.testing.assert_array_equal(to_numpy(weight), after[weight.path], err_msg=weight.path)
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_allclose(to_numpy(theirs), to_numpy(ours), atol=1e-7)
    a, b = (one.evaluate(x, y, verbose=0) for one in (model, loaded))
    np.testing.assert_allclose(a, b, rtol=1e-5)


@once
def test_groups_do_not_see_each_other():
    """Other queries of the second group change nothing in the first, nor in the third."""
    model = tiny_detr(query_groups=3)
    randomize(model)
    x, _ = batch()
    before = model(x, training=True)
    assert before["groups"][-1]["boxes"].shape == (3, 14, 4) and len(before["groups"]) == 2
    queries = model.get_layer("query_groups").embeddings
    changed = to_numpy(queries)
    changed[:7] += 1
    queries.assign(changed)
    after = model(x, training=True)
    np.testing.assert_allclose(to_numpy(after["boxes"]), to_numpy(before["boxes"]), atol=1e-6)
    moved = np.abs(to_numpy(after["groups"][-1]["boxes"]) - to_numpy(before["groups"][-1]["boxes"]))
    assert moved[:, :7].min(axis=-1).max() > 1e-3 and moved[:, 7:].max() < 1e-5


@once
def test_equal_groups_have_the_loss_of_one():
    one, three = tiny_detr(), tiny_detr(query_groups=3)
    randomize(one)
    values = {weight.path: to_numpy(weight) for weight in one.weights}
    queries = values["queries/embeddings"]
    values["query_groups/embeddings"] = np.concatenate([queries, queries])
    for weight in three.weights:
        weight.assign(values[weight.path])
    x, y = batch()
    losses = []
    for model in (one, three):
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        losses.append(model.train_on_batch(x, y, return_dict=True)["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@once
def test_noisy_objects_are_near_the_objects_and_hidden_from_the_queries():
    keras.utils.set_random_seed(0)
    model = tiny_detr(denoising=True)
    randomize(model)
    x, y = batch(count=(3, 0, 2))
    layer = model.get_layer("denoising")
    boxes, labels = layer.noisy(
        ops.convert_to_tensor(y["boxes"]), ops.convert_to_tensor(y["labels"])
    )
    boxes, labels = to_numpy(boxes).reshape(3, 5, 3, 4), to_numpy(labels).reshape(3, 5, 3)
    size = y["boxes"][:, None, :, 2:]
    assert (np.abs(boxes[..., :2] - y["boxes"][:, None, :, :2]) <= 0.2 * size + 1e-6).all()
    assert (np.abs(boxes[..., 2:] / np.maximum(size, 1e-9) - 1)[0] <= 0.4 + 1e-5).all()
    assert 0 < (labels != y["labels"][:, None]).mean() < 0.5
    targets = {key: ops.convert_to_tensor(value) for key, value in y.items()}
    given = {key: ops.convert_to_tensor(value) for key, value in x.items()}
    found = model({**given, "targets": targets}, training=True)
    assert found["denoising"][-1]["logits"].shape == (3, 15, 6)
    for key, value in run(model, x).items():
        np.testing.assert_allclose(to_numpy(found[key]), value, atol=1e-5)
    assert all(np.isfinite(to_numpy(block["boxes"])).all() for block in found["denoising"])
    model.compile(keras.optimizers.SGD(0.0), denoising_weight=0.0, run_eagerly=True)
    without = model.train_on_batch(x, y, return_dict=True)["loss"]
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    assert model.train_on_batch(x, y, return_dict=True)["loss"] > without + 1


@once
def test_training_lowers_the_loss_and_finds_the_objects():
    keras.utils.set_random_seed(1)
    model = tiny_detr(num_queries=5, width=32)
    x, y = batch(count=(1, 0, 1), objects=1)
    model.compile(keras.optimizers.AdamW(3e-3, global_clipnorm=1.0))
    history = model.fit(x, y, epochs=150, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 5
    assert set(history) == {"loss", "class_loss", "boxes_loss", "giou_loss"}
    found = run(model, x)
    for i in (0, 2):
        query = found["logits"][i, :, :-1].max(-1).argmax()
        assert found["logits"][i, query].argmax() == y["labels"][i, 0]
        np.testing.assert_allclose(found["boxes"][i, query], y["boxes"][i, 0], atol=0.1)
    assert (found["logits"][1].argmax(-1) == 5).all()  # nothing in the picture without objects


@pytest.mark.parametrize("policy", ["mixed_bfloat16"])
def test_mixed_precision_trains_and_answers_in_float32(policy):
    model = tiny_detr(tiny_vit(dtype=policy), dtype=policy)
    x, y = batch()
    outputs = model(x)
    assert {keras.backend.standardize_dtype(value.dtype) for value in outputs.values()} == {
        "float32"
    }
    model.compile("adam", jit_compile=keras.backend.backend() == "jax")
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()


@once
def test_remat_and_fast_paths_change_no_number():
    from keras_vit.fast_paths import without_fast_paths

    x, y = batch()
    model = tiny_detr()
    randomize(model)
    expected = run(model, x)
    with without_fast_paths():
        for name, value in run(model, x).items():
            np.testing.assert_allclose(value, expected[name], atol=1e-5)
    again = tiny_detr(remat=True)
    gradients = []
    for one in (model, again):
        for ours, theirs in zip(one.weights, model.weights, strict=True):
            ours.assign(to_numpy(theirs))
        one.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    for one in (again, model):
        one.train_on_batch(x, y)
        gradients.append([to_numpy(weight) for weight in one.weights])
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@once
def test_counts_are_those_of_the_paper(no_initialization):
    if "resnet" not in registry.FAMILIES:
        pytest.skip("no ResNet")
    statistics = {"50": 106_240, "101": 210_688}
    paper = {"50": 41_524_768, "101": 60_464_672}
    for depth in ("50", "101"):
        for name in (f"DETRResNet{depth}", f"DETRResNet{depth}DC5"):
            model = getattr(keras_vit, name)(dtype="bfloat16")
            assert model.count_params() == paper[depth] + statistics[depth]
            assert model.get_config()["dilation"] is name.endswith("DC5")
    keras.backend.clear_session()


BAD = [
    ({"backbone": "ResNet5"}, "name of a variant.*Received: backbone='ResNet5'"),
    ({"backbone": 3}, "backbone must be a model of keras_vit.*Received: int"),
    ({"num_queries": 0}, "num_queries must be an integer"),
    ({"width": 18}, "multiple of 4"),
    ({"num_heads": 3}, "multiple of num_heads"),
    ({"position_embedding": "none"}, "position_embedding must be one of 'sine', 'learned'"),
    ({"dilation": True}, "determines dilation"),
    ({"image_size": 32}, "determines image_size"),
    ({"include_preprocessing": True}, "determines include_preprocessing"),
    ({"class_ids": [1, 2]}, "class_ids must be a list of 5 different integers"),
    ({"class_ids": [1, 2, 3, 4, 4]}, "class_ids must be a list of 5 different integers"),
    ({"class_names": ["a"]}, "class_names"),
    ({"dropout_rate": 1}, "dropout_rate must be a number"),
    ({"denoising": 2}, "denoising must be one of"),
]


@once
@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_detr(arguments.pop("backbone", None), **arguments)


@once
def test_bad_inputs_are_explained():
    model = tiny_detr()
    x, y = batch()
    for given, message in [
        ({"pictures": x["images"]}, "Received: keys"),
        ({**x, "mask": x["valid"]}, "Received: keys"),
        ({**x, "valid": x["valid"][..., None]}, "valid must be a mask of the pixels"),
        ({**x, "valid": x["valid"][:, :-1]}, "valid must be a mask of the pixels"),
        ({"images": x["images"][:, :-1], "valid": x["valid"][:, :-1]}, "multiples of"),
        ({**x, "images": x["images"][..., :2]}, "channels"),
    ]:
        with pytest.raises(ValueError, match=message):
            model(given)
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="no sample weights"):
        model.fit(x, y, sample_weight=np.ones(3), verbose=0)
    with pytest.warns(UserWarning, match="takes normalised images"):
        model({**x, "images": np.abs(x["images"]) * np.float32(100)})


SHARDED = """
import sys
import keras
import numpy as np
from tests.tasks.detr.helpers import batch, tiny_detr

if sys.argv[1] == "2":
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    assert len(keras.distribution.list_devices()) == 2
keras.utils.set_random_seed(0)
model = tiny_detr(query_groups=2)
x, y = batch(count=(3, 0, 1, 2))
model.compile(keras.optimizers.SGD(0.1))
losses = model.fit(x, y, epochs=3, batch_size=4, verbose=0, shuffle=False).history["loss"]
print(*losses)
"""


@pytest.mark.backends("jax")
def test_sharded_over_devices_the_loss_is_that_of_one(tmp_path):
    import os
    from pathlib import Path

    root = Path(keras_vit.__file__).parents[1]
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)]),
    }
    losses = []
    for devices in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", SHARDED, devices],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        losses.append([float(x) for x in done.stdout.split()])
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-5)
    assert losses[0][0] > losses[0][-1]


def test_wrong_targets_in_arrays_leave_the_model_as_it_was():
    """An error within a step would take the weights of a model on JAX."""
    model = tiny_detr()
    model.compile("sgd")
    x, y = batch()
    expected = to_numpy(model(x)["boxes"])
    wrong = {**y, "boxes": y["boxes"] * 100}
    for call in (
        lambda: model.fit(x, wrong, verbose=0),
        lambda: model.fit(x, y, validation_data=(x, wrong), verbose=0),
        lambda: model.evaluate(x, wrong, verbose=0),
        lambda: model.train_on_batch(x, {**y, "labels": y["labels"] + 9}),
        lambda: model.test_on_batch(x, {"boxes": y["boxes"]}),
    ):
        with pytest.raises(ValueError, match="look like pixels|labels must be|Targets must be"):
            call()
    np.testing.assert_array_equal(to_numpy(model(x)["boxes"]), expected)
