"""SETR as a Keras model: counts, encoders of all families, files, training, bad arguments."""

import functools
import inspect
import json
import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.models import registry
from keras_vit.models.base import ImageModel
from tests.helpers import (
    images,
    once,
    once_but,
    randomize,
    run,
    tiny,
    tiny_vit,
    to_numpy,
)
from tests.tasks.setr.helpers import labels, tiny_setr

DECODERS = ("naive", "pup", "mla")
CONVENTIONS = ("authors", "mmseg")
# Zheng et al. 2021, table 2, without the authors' classifier `conv_seg`, which is never used:
# 76,950 parameters for each of 4, 5 and 5 heads. In training and in inference.
COUNTS = {
    "SETRNaive": (305_361_496, 304_450_966, 305.67, 4),
    "SETRPUP": (317_922_542, 308_319_894, 318.31, 5),
    "SETRMLA": (310_184_086, 310_030_486, 310.57, 5),
}


def count(layers):
    return sum(math.prod(x.shape) for layer in layers for x in layer.trainable_weights)


@once
@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_of_the_paper(name, no_initialization):
    training, inference, paper, heads = COUNTS[name]
    model = getattr(keras_vit, name)(dtype="bfloat16")
    assert count(model.layers) == training
    assert round((training + heads * 76_950) / 1e6, 2) == paper
    assert count([x for x in model.layers if not x.name.startswith("auxiliary")]) == inference
    if name == "SETRMLA":  # the costs of the other layers are in test_complexity_...
        assert keras_vit.complexity(model).parameters == model.count_params()
    keras.backend.clear_session()


@once
def test_every_task_is_public_and_has_a_case_here():
    classes = {x for x in vars(keras_vit).values() if inspect.isclass(x)}
    tasks = {x.model for x in registry.TASKS.values()}
    assert tasks == {keras_vit.SETR, keras_vit.DETR, keras_vit.MAE, keras_vit.SimMIM}
    assert tasks <= classes
    assert {x for x in classes if issubclass(x, ImageModel)} == tasks | {
        x.model for x in registry.FAMILIES.values()
    }
    for name, task in registry.task_variants().items():
        assert getattr(keras_vit, name) is task.variants[name]


# Both conventions of every decoder, and what changes shapes or graphs besides.
CASES = {
    **{f"{d} {c}": {"decoder": d, "convention": c} for d in DECODERS for c in CONVENTIONS},
    "pup without heads": {"decoder": "pup", "auxiliary_heads": False},
    "naive of one layer": {"decoder": "naive", "layers": (1,)},
    "mla of two layers": {"decoder": "mla", "layers": (0, 3), "class_names": list("abcde")},
    "pup, frozen": {"decoder": "pup", "frozen_layers": ["block00", "auxiliary_head0/norm"]},
}


@pytest.mark.parametrize(
    "arguments",
    # the fewest layers; test_golden.py has steps of the others on every backend
    once_but({k: (v,) for k, v in CASES.items()}, "naive authors"),
)
def test_contract(arguments, tmp_path):
    model = tiny_setr(**arguments)
    randomize(model)
    pixels, truth = images(), labels()
    expected = run(model, pixels)
    assert expected.shape == (3, 24, 16, 5) and model.output.shape == (None, 24, 16, 5)
    assert model(pixels).shape == expected.shape  # no heads in a call, and none in `predict`
    outputs = model(pixels, training=True)
    heads = [x for x in model.layers if x.name.startswith("auxiliary_head")]
    if heads:
        assert set(outputs) == {"main", "auxiliary"} and len(outputs["auxiliary"]) == len(heads)
        assert all(x.shape == expected.shape for x in outputs["auxiliary"])
    else:
        assert outputs.shape == expected.shape and model.training_model is None

    # the configuration is exactly the constructor's arguments
    config = model.get_config()
    assert set(config) == set(inspect.signature(type(model)).parameters)
    assert type(model)(**config).get_config() == config
    for key, value in arguments.items():
        assert config[key] == value
    json.dumps(config["encoder"])

    # a step of training changes every weight that is not frozen
    model.compile("adam", jit_compile=keras.backend.backend() == "jax")
    before = {weight.path: to_numpy(weight) for weight in model.weights}
    model.fit(pixels, truth, verbose=0)
    after = {weight.path: to_numpy(weight) for weight in model.weights}
    same = {path for path, x in after.items() if np.array_equal(x, before[path])}
    frozen = {weight.path for weight in model.trainable_weights} ^ {
        weight.path for weight in model.weights if "moving" not in weight.path
    }
    dropped = set()  # MLA drops the class token before the first block
    if arguments["decoder"] == "mla":
        dropped = {"class_token/tokens", "position_embedding/prefix"}
    assert same - dropped == frozen

    # a file restores everything, including the state of the optimizer and how it was compiled
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert json.dumps(loaded.get_config()) == json.dumps(config)
    assert [x.path for x in loaded.weights] == list(after)
    for weight in loaded.weights:
        np.testing.assert_array_equal(to_numpy(weight), after[weight.path], err_msg=weight.path)
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_allclose(to_numpy(theirs), to_numpy(ours), atol=1e-7)
    np.testing.assert_allclose(run(loaded, pixels), run(model, pixels), atol=1e-6)
    a, b = (x.evaluate(pixels, truth, verbose=0) for x in (model, loaded))
    np.testing.assert_allclose(a, b, rtol=1e-5)


ENCODERS = {
    **{name: functools.partial(tiny, name) for name in registry.FAMILIES},
    "deit": functools.partial(tiny_vit, distillation_token=True),
    "dinov2": functools.partial(
        tiny_vit, num_registers=2, layer_scale=0.5, mlp="swiglu", position_resample="dinov2"
    ),
    "drop_remainder": functools.partial(tiny_vit, drop_remainder=True, image_size=(27, 18)),
}


@once
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ENCODERS)
def test_any_encoder(name, decoder):
    encoder = ENCODERS[name]()
    randomize(encoder)
    size = tuple(encoder.input.shape[1:3])
    pixels = images(size)
    before = run(encoder, pixels)
    weights = {weight.path: to_numpy(weight) for weight in encoder.weights}
    model = tiny_setr(decoder, encoder)
    assert model.grid_size == encoder.grid_size
    shared = model.encoder_layers  # not copied
    assert shared and all(layer is encoder.get_layer(layer.name) for layer in shared)
    blocks = [x.name for x in encoder.layers if isinstance(x, keras_vit.layers.Block)]
    read = {x.name for x in shared}
    assert {x for x in blocks if not x.startswith("class_")} <= read
    assert not any("head/" in x.path and "auxiliary" not in x.path for x in model.weights)
    assert run(model, pixels).shape == (3, *size, 5)
    model.compile("sgd")
    history = model.fit(pixels, labels(size), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    moved = [not np.array_equal(to_numpy(x), weights[x.path]) for x in encoder.weights]
    assert sum(moved) > len(moved) / 4  # CaiT: without those for the class token
    for weight in encoder.weights:  # the encoder itself was not changed by being used
        weight.assign(weights[weight.path])
    np.testing.assert_array_equal(run(encoder, pixels), before)


@once
def test_the_encoder_computes_what_it_did():
    """naive reads the last block, before the normalisation, without the class token."""
    encoder = tiny_vit(depth=4)
    randomize(encoder)
    model = tiny_setr("naive", encoder)
    reads = keras.Model(model.input, model.get_layer("decoder").input)
    grid = encoder.features(images(), ["block03"], grid=True)["block03"]
    np.testing.assert_allclose(run(reads, images()), to_numpy(grid), atol=1e-6)


@once
def test_mla_drops_the_class_token_before_the_blocks():
    encoder = tiny_vit(depth=4)
    randomize(encoder)
    model = tiny_setr("mla", encoder)
    reads = keras.Model(model.input, model.get_layer("neck").input)
    found = run(reads, images())
    tokens = encoder.embed(ops.convert_to_tensor(images()))[:, 1:]
    for i, grid in enumerate(found):
        tokens = encoder.get_layer(f"block{i:02d}")(tokens)
        expected = to_numpy(tokens).reshape(3, 3, 2, 16)
        np.testing.assert_allclose(grid, expected, atol=1e-5)
    # features of the model are its own, not those of the encoder with the class token
    features = model.features(images(), ["block03"], grid=True)["block03"]
    np.testing.assert_allclose(to_numpy(features), expected, atol=1e-5)
    assert model.token_layout("block03").num_prefix_tokens == 0
    assert encoder.token_layout("block03").num_prefix_tokens == 1


@once
def test_mla_resizes_a_pyramid_to_its_finest_map():
    model = tiny_setr("mla", tiny("swin"))
    neck = model.get_layer("neck")
    assert [x.shape[1] for x in neck.input] == [8, 4]
    assert [x.shape[1] for x in neck.output] == [8, 8]
    assert model.get_config()["layers"] == (0, 1)


@once
def test_layers_are_quarters_by_default():
    for depth, expected in {24: (5, 11, 17, 23), 12: (2, 5, 8, 11), 4: (0, 1, 2, 3)}.items():
        model = tiny_setr("naive", tiny_vit(depth=depth))
        assert model.get_config()["layers"] == expected
    assert tiny_setr("pup", tiny_vit(depth=2)).get_config()["layers"] == (0, 1)


@pytest.mark.parametrize("decoder", once_but(DECODERS, "mla"))  # has all kinds of resizing
def test_any_size(decoder):
    free = tiny_setr(decoder, tiny_vit(depth=4, image_size=None, position_grid=(3, 2)))
    randomize(free)
    for size in ((24, 16), (16, 40)):
        encoder = tiny_vit(depth=4, image_size=size, position_grid=(3, 2))
        fixed = tiny_setr(decoder, encoder)
        for ours, theirs in zip(free.weights, fixed.weights, strict=True):
            theirs.assign(ops.copy(ours))
        expected = run(fixed, images(size))
        np.testing.assert_allclose(
            free.predict(images(size), verbose=0), expected, rtol=1e-5, atol=1e-5
        )


@once
def test_resize_resamples_the_positions_of_the_encoder():
    model = tiny_setr("pup", tiny_vit(depth=4, position_resample="bilinear"))
    randomize(model)
    larger = keras_vit.resize(model, (32, 40))
    assert larger.get_config()["image_size"] == (32, 40)
    assert larger.get_layer("position_embedding").grid_size == (4, 5)
    free = keras_vit.resize(model, None)  # resamples in every call
    pixels = images((32, 40))
    np.testing.assert_allclose(run(larger, pixels), run(free, pixels), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(
        run(keras_vit.resize(larger, (24, 16)), images()).shape, run(model, images()).shape
    )


@once
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_logits_are_float32_under_mixed_precision(decoder, policy):
    model = tiny_setr(decoder, tiny_vit(depth=4, dtype=policy), dtype=policy)
    assert model.output.dtype == "float32"
    outputs = model(images(), training=True)
    for logits in (model(images()), outputs["main"], *outputs["auxiliary"]):
        assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if layer.weights and "classifier" not in layer.path:
            assert layer.compute_dtype == policy.removeprefix("mixed_"), layer.path
    full = tiny_setr(decoder)
    randomize(full)
    for ours, theirs in zip(full.weights, model.weights, strict=True):
        theirs.assign(ops.copy(ours))
    if policy == "mixed_float16":
        np.testing.assert_allclose(run(model, images()), run(full, images()), atol=0.05)


@once
def test_pixels_and_preprocessor_come_from_the_encoder():
    preprocessor = keras_vit.Preprocessor((24, 16), mean=(0.1,) * 3, std=(0.3,) * 3)
    inside = tiny_vit(depth=4, include_preprocessing=True, preprocessor=preprocessor)
    model = tiny_setr("pup", inside)
    assert model.takes_pixels and model.preprocessor is preprocessor
    again = keras_vit.SETR.from_config(model.get_config())
    for ours, theirs in zip(model.weights, again.weights, strict=True):
        theirs.assign(ours)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 24, 16, 3)).astype("float32")
    np.testing.assert_allclose(run(again, pixels), run(model, pixels), atol=1e-6)
    other = keras_vit.Preprocessor((24, 16))
    with pytest.raises(ValueError, match="part of this encoder"):
        tiny_setr("pup", inside, preprocessor=other)
    plain = tiny_setr("pup", tiny_vit(depth=4, preprocessor=preprocessor), preprocessor=other)
    assert plain.preprocessor is other


@once
def test_a_frozen_encoder_stays_as_it_is():
    model = tiny_setr("pup")
    for layer in model.encoder_layers:
        layer.trainable = False
    assert {x.path.split("/")[0] for x in model.trainable_weights} == {
        "decoder",
        *(f"auxiliary_head{i}" for i in range(4)),
    }
    loaded = keras_vit.SETR.from_config(model.get_config())
    paths = [x.path for x in loaded.trainable_weights]
    assert paths == [x.path for x in model.trainable_weights]


@once
def test_lora_and_quantisation_survive_a_file(tmp_path):
    model = tiny_setr("pup")
    model.get_layer("block01").attention.qkv.enable_lora(2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("block01").attention.qkv.lora_enabled
    np.testing.assert_allclose(run(loaded, images()), run(model, images()), atol=1e-6)


@once
def test_complexity_and_shapes_are_those_of_inference():
    model = tiny_setr("mla")
    names = [row[0] for row in keras_vit.complexity(model).layers]
    assert names[-3:] == ["neck", "decoder", "logits"]
    rows = {row[0]: row for row in keras_vit.complexity(model).layers}
    neck = 4 * (6 * 16 * 8 + 6 * 9 * 8 * 8)  # 3 x 2 positions, 16 -> 8 -> 8 channels
    assert rows["neck"][3] == neck
    decoder = 4 * 6 * 9 * (8 * 4 + 4 * 4) + 16 * 6 * 9 * 16 * 5  # of 12 x 8 positions at the end
    assert rows["decoder"][3] == decoder
    assert keras_vit.shape_flow(model)[-1][2] == "(B, 24, 16, 5)"
    pup = keras_vit.complexity(tiny_setr("pup")).layers[-2]
    convs = 9 * (6 * 16 * 8 + (24 + 96 + 384) * 8 * 8) + 384 * 8 * 5
    assert pup[3] == convs


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoder": "fpn"}, "decoder must be one of 'naive', 'pup', 'mla'"),
        ({"convention": "timm"}, "convention must be one of"),
        ({"layers": (3, 4)}, r"indices of the encoder's blocks, 0 to 3.*layers=\(3, 4\)"),
        ({"layers": (2, 1)}, "rising indices"),
        ({"layers": ()}, "rising indices"),
        ({"layers": 3}, "rising indices"),
        ({"num_classes": 1}, "num_classes must be an integer >= 2"),
        ({"decoder_width": 8.0}, "decoder_width must be"),
        ({"image_size": 512}, "leave it out, or resize the encoder"),
        ({"include_preprocessing": True}, "determines include_preprocessing"),
        ({"class_names": ["cat"]}, "one name for each class"),
        ({"short_side": 0}, "short_side must be"),
        ({"encoder": "vit"}, "encoder must be a model of keras_vit"),
        ({"frozen_layers": ["head"]}, "frozen_layers must hold paths"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_setr(**arguments)


@once
def test_bad_data():
    model = tiny_setr("pup")
    model.compile("sgd")
    with pytest.raises(ValueError, match="same height and width"):
        model.fit(images(), labels((12, 16)), verbose=0)
    with pytest.raises(ValueError, match="Labels must have the shape"):
        model.fit(images(), labels()[..., None], verbose=0)
    with pytest.raises(ValueError, match="takes no sample weights"):
        model.fit(images(), labels(), sample_weight=np.ones(3), verbose=0)
    with pytest.raises(ValueError, match="built for images of shape"):
        model(images((32, 16)), training=True)
    with pytest.raises(ValueError, match="loss must be any of"):
        model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match="auxiliary_weight must be a number"):
        model.compile("sgd", auxiliary_weight=-1)
    with pytest.raises(ValueError, match="class_weights are those of losses that are given by"):
        model.compile("sgd", loss=keras_vit.losses.SegmentationDice(), class_weights=[1] * 5)
    model.compile("sgd", loss=["cross_entropy", "dice"], class_weights=np.ones(5))
