"""The contract of every family: configuration, training, files, sizes, dtypes, recomputation."""

import functools
import inspect

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_vit
from keras_vit.models import registry
from keras_vit.models.base import ImageModel
from tests.helpers import (
    compile_model,
    images,
    once,
    once_but,
    randomize,
    run,
    tiny,
    tiny_cait,
    tiny_hybrid,
    tiny_swin,
    tiny_vit,
    to_numpy,
)
from tests.models.contract import check_contract, same_weights, size_of

NAMES = ["cat", "dog", "car", "tree"]
resnet = functools.partial(tiny, "resnet")
pvt, pvt_v2 = functools.partial(tiny, "pvt"), functools.partial(tiny, "pvt_v2")
FAMILIES = {name: functools.partial(tiny, name) for name in registry.FAMILIES}
ONE_STAGE = {"depths": (2,), "num_heads": (2,)}  # graphs of more take long to make


def cnn(size=(24, 16)):
    """A Keras CNN with layers of its own kinds, one of which counts."""
    pixels = keras.Input((*size, 3))
    x = layers.Conv2D(6, 3, 4, padding="same", data_format="channels_last", name="first")(pixels)
    x = layers.ReLU()(layers.BatchNormalization(axis=-1, name="batch_norm")(x))
    return keras.Model(pixels, x, name="cnn")


def with_cnn(**arguments):
    return tiny_hybrid(stem=cnn(), **arguments)


# A branch that is dropped for every image is not trained: rates of paths are low.
CASES = {
    "vit": (tiny_vit, {}),
    "vit of any size, features": (tiny_vit, {"image_size": None, "num_classes": None}),
    "vit of one channel": (
        tiny_vit,
        {"num_channels": 1, "patch_size": (4, 8), "norm_epsilon": 1e-3, "mlp": "gelu_tanh"},
    ),
    "vit with registers": (
        tiny_vit,
        {"pooling": "gap", "num_registers": 2, "position_embedding": "learned_patches"},
    ),
    "vit with attention pooling": (
        tiny_vit,
        {"pooling": "map", "class_token": True, "position_embedding": None},
    ),
    "vit with preprocessing": (
        tiny_vit,
        {"position_embedding": "sincos", "pooling": "gap", "include_preprocessing": True},
    ),
    "vit with another grid": (tiny_vit, {"position_grid": (5, 4), "position_resample": "hf"}),
    "vit with SwiGLU": (
        tiny_vit,
        {"mlp": "swiglu", "qk_norm": True, "layer_scale": 0.1, "qkv_bias": False},
    ),
    "vit with dropout": (
        tiny_vit,
        {"dropout_rate": 0.1, "attention_dropout_rate": 0.1, "drop_path_rate": 0.1},
    ),
    "vit with remat": (tiny_vit, {"remat": True, "drop_path_rate": 0.1, "dropout_rate": 0.1}),
    "vit as CLIP's": (
        tiny_vit,
        {"pre_norm": True, "patch_bias": False, "mlp": "quick_gelu", "representation_size": 8},
    ),
    "vit with class names": (
        tiny_vit,
        {"pooling": "token_gap", "fc_norm": True, "class_names": NAMES},
    ),
    "deit": (tiny_vit, {"distillation_token": True, "frozen_layers": ["block00/norm1"]}),
    "swin of any size, features": (
        tiny_swin,
        {
            **ONE_STAGE,
            "image_size": None,
            "num_classes": None,
            "convention": "timm",
            "window_size": (3,),
            "patch_size": (4, 2),
            "num_channels": 1,
            "norm_epsilon": 1e-3,
            "mlp": "gelu_tanh",
        },
    ),
    "swin v2": (
        tiny_swin,
        {
            **ONE_STAGE,
            "version": 2,
            "pretrained_window_size": (3,),
            "qkv_bias": False,
            "mlp_ratio": 1.5,
            "dropout_rate": 0.1,
            "attention_dropout_rate": 0.1,
            "drop_path_rate": 0.1,
            "remat": True,
            "include_preprocessing": True,
            "class_names": NAMES,
            "frozen_layers": ["patch_norm"],
        },
    ),
    "pvt": (
        pvt,
        {
            "remat": True,
            "drop_path_rate": 0.1,
            "position_grid": (8, 4),
            "mlp_ratios": (1.5, 2),
            "frozen_layers": ["stage0_patch_embedding"],
        },
    ),
    "pvt v2 of any size": (
        pvt_v2,
        {
            "reductions": (1, 1),
            "pool_size": 7,
            "image_size": None,
            "class_names": NAMES,
            "frozen_layers": ["stage0_patch_embedding"],
        },
    ),
    "hybrid with another grid": (
        tiny_hybrid,
        {
            "stem_depths": (1,),
            "position_grid": 5,
            "representation_size": 8,
            "frozen_layers": ["stem_conv"],
        },
    ),
    "hybrid of any size": (
        tiny_hybrid,
        {
            "image_size": None,
            "patch_size": (2, 1),
            "stem_depths": (),
            "convention": "timm",
            "frozen_layers": ["stem_conv"],
        },
    ),
    "hybrid without stages": (tiny_hybrid, {"stem_depths": (), "frozen_layers": ["stem_norm"]}),
    "hybrid with a CNN": (
        with_cnn,
        {"class_names": NAMES, "mlp": "gelu_tanh", "frozen_layers": ["cnn"]},
    ),
    "cait of any size": (
        tiny_cait,
        {
            "image_size": None,
            "position_grid": (5, 4),
            "layer_scale": 0.5,
            "qkv_bias": False,
            "class_names": NAMES,
            "frozen_layers": ["position_embedding"],
        },
    ),
    "resnet": (
        resnet,
        {"remat": True, "drop_path_rate": 0.1, "dropout_rate": 0.1, "frozen_layers": ["stem"]},
    ),
    "resnet of basic blocks, of any size": (
        resnet,
        {"block": "basic", "dilation": True, "image_size": None, "class_names": NAMES},
    ),
    "resnet with frozen batch norm, features": (
        resnet,
        {"batch_norm": "frozen", "num_classes": None, "include_preprocessing": True},
    ),
}


@pytest.mark.parametrize(
    ("make", "arguments"),
    once_but(
        CASES,
        "vit of any size, features",  # shapes that are unknown when the graph is compiled
        "vit with SwiGLU",  # the most kinds of layers in one block
        "vit with remat",  # gradients of a recomputation, with the same draws
        "swin of any size, features",  # windows that are cut and padded at call time
        "pvt",  # remat of tokens and maps
        "pvt v2 of any size",  # depthwise convolutions, pooling to 7 x 7 of an unknown size
        "hybrid without stages",  # convolutions with standardised kernels, group norm
        "hybrid with a CNN",  # a model within, with a state that training changes
        "cait of any size",  # products over heads
        "resnet",  # statistics of batches in a recomputation
        "resnet of basic blocks, of any size",  # dilated convolutions, padding of unknown sizes
    ),
)
def test_contract(make, arguments, tmp_path):
    after = check_contract(make, arguments, tmp_path)
    if make is with_cnn:  # whose classes a file may name, and no loader but Keras's makes
        with pytest.raises(ValueError, match="load others with keras.models.load_model"):
            keras_vit.from_pretrained(tmp_path / "model.keras")
    else:
        same_weights(keras_vit.from_pretrained(tmp_path / "model.keras"), after)


@once
def test_every_family_has_a_case():
    classes = {x for x in vars(keras_vit).values() if inspect.isclass(x)}
    tasks = {x.model for x in registry.TASKS.values()}  # tests/tasks
    families = {x for x in classes if issubclass(x, ImageModel)} - tasks
    assert families == {x.model for x in registry.FAMILIES.values()}
    assert families == {type(make()) for make in {make for make, _ in CASES.values()}}


POLICIES = {
    **{name: (make, {}) for name, make in FAMILIES.items() if name != "swin"},
    "vit of all parts": (tiny_vit, {"layer_scale": 0.5, "pooling": "map", "num_registers": 1}),
    "pvt v2, linear": (pvt_v2, {"reductions": (1, 1), "pool_size": 7}),
    "swin": (tiny_swin, ONE_STAGE),
    "swin v2": (tiny_swin, {**ONE_STAGE, "version": 2}),
}


# Softmax, norms and biases of windows are parts of their own that each backend rounds.
@pytest.mark.parametrize(("make", "arguments"), once_but(POLICIES, "swin", "swin v2"))
@pytest.mark.parametrize(
    "policy", once_but(["mixed_bfloat16", "mixed_float16"], "mixed_float16"), ids=str
)
def test_a_dtype_policy_reaches_every_layer(make, arguments, policy):
    model, full = make(dtype=policy, **arguments), make(**arguments)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if layer.weights and "head" not in layer.path and "position_bias/" not in layer.path:
            assert layer.compute_dtype == policy.removeprefix("mixed_"), layer.path
    assert all(weight.dtype == "float32" for weight in model.weights)
    assert model.output.dtype == "float32"
    randomize(full)
    for ours, theirs in zip(full.weights, model.weights, strict=True):
        theirs.assign(ops.copy(ours))
    pixels = images(size_of(model))
    found = model(pixels)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    if policy == "mixed_float16":  # bfloat16 has an eighth of its digits
        np.testing.assert_allclose(to_numpy(found), to_numpy(full(pixels)), atol=0.05)


# Blocks of windows; those of tokens are in tests/test_remat.py. The wrapper is the same for all.
@pytest.mark.parametrize("make", once_but(FAMILIES, "swin"))
def test_remat_takes_equal_steps(make):
    arguments = {"depths": (1,), "num_heads": (2,)} if make is FAMILIES["swin"] else {}
    trained = []
    for remat in (False, True):
        keras.utils.set_random_seed(7)
        model = make(remat=remat, dropout_rate=0.3, **arguments)
        compile_model(model, keras.optimizers.SGD(0.5))
        model.fit(images(size_of(model)), np.ones((3, 4)), verbose=0, shuffle=False)
        trained.append([to_numpy(weight) for weight in model.weights])
    for plain, remat in zip(*trained, strict=True):
        np.testing.assert_allclose(remat, plain, atol=1e-5)


# Positions that are resampled at call time; windows have a test of their own in test_swin.py.
@pytest.mark.parametrize(
    "make", once_but({k: v for k, v in FAMILIES.items() if k != "swin"}, "vit")
)
def test_a_model_of_any_size_equals_the_fixed_one(make):
    # positions of the first size are kept, or many more
    model = make(image_size=None, **({"position_grid": (3, 2)} if make is FAMILIES["vit"] else {}))
    randomize(model)
    for size in [(24, 16), (16, 40), (8, 8)]:
        fixed = keras_vit.resize(model, size)
        expected = run(fixed, images(size))
        np.testing.assert_allclose(model.predict(images(size), verbose=0), expected, atol=1e-5)
