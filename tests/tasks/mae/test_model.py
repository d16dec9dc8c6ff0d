"""MAE as a Keras model: counts, masks, positions, training, files, bad arguments."""

import inspect
import json
import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.ops.masking import masked_order, take_tokens
from keras_vit.ops.patches import images_of, patches_of
from keras_vit.tasks.mae.masking import MaskTokens, RandomMasking
from keras_vit.tasks.mae.positions import sine_grid
from tests.helpers import images, once, once_but, randomize, run, tiny, tiny_vit, to_numpy
from tests.tasks.mae.helpers import tiny_mae

# He et al. 2022 and the authors' code; with the fixed positions, and what is trained.
COUNTS = {
    "MAEBase": (111_907_840, 111_655_680),
    "MAELarge": (329_541_888, 329_239_296),
    "MAEHuge": (657_074_508, 656_613_964),
}


def count(weights):
    return sum(math.prod(x.shape) for x in weights if "seed" not in x.path)


@once
@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_of_the_paper(name, no_initialization):
    model = getattr(keras_vit, name)(dtype="bfloat16")
    assert (count(model.weights), count(model.trainable_weights)) == COUNTS[name]
    assert keras_vit.complexity(model).parameters == COUNTS[name][0]
    for prefix, width in (("", model.encoder.get_config()["width"]), ("decoder_", 512)):
        layer = model.get_layer(f"{prefix}position_embedding")
        table = sine_grid(layer.grid_size, width)  # rounded to bfloat16 here
        np.testing.assert_allclose(to_numpy(layer.grid), table, atol=4e-3)
        assert not to_numpy(layer.prefix).any()
    keras.backend.clear_session()


@once
def test_positions_are_the_authors_table():
    """util/pos_embed.py: "w goes first", frequencies that never reach 1 / 10000."""
    table = sine_grid((4, 3), 48)
    assert table.shape == (4, 3, 48)
    for i in range(4):
        for j in range(3):
            for k in range(12):
                angle = 1 / 10000 ** (k / 12)
                expected = [f(x * angle) for x in (j, i) for f in (math.sin, math.cos)]
                np.testing.assert_allclose(table[i, j, k::12], expected, atol=1e-7)
    with pytest.raises(ValueError, match="multiple of 4.*width=10"):
        sine_grid((2, 2), 10)


@once
def test_patches_there_and_back():
    x = images((24, 16))
    patches = to_numpy(patches_of(x, (8, 4)))
    assert patches.shape == (3, 12, 96)
    np.testing.assert_array_equal(patches[1, 6].reshape(8, 4, 3), x[1, 8:16, 8:12])
    np.testing.assert_array_equal(to_numpy(images_of(patches, (8, 4), (3, 4))), x)


def test_masks_keep_the_smallest_noise_and_every_patch_finds_its_place():
    noise = np.random.default_rng(0).random((5, 12)).astype("float32")
    kept, places, mask = (ops.convert_to_numpy(x) for x in masked_order(noise, 3))
    assert (mask.sum(axis=1) == 9).all()
    for row in range(5):
        assert set(kept[row]) == set(np.flatnonzero(mask[row] == 0))
        assert noise[row][mask[row] == 0].max() < noise[row][mask[row] == 1].min()
    x = np.random.default_rng(1).random((5, 12, 4)).astype("float32")
    masking = RandomMasking(0.75, num_prefix_tokens=2)
    tokens = np.concatenate([np.full((5, 2, 4), 7, "float32"), x], axis=1)
    visible, mask, places = masking(tokens, noise)
    filling = MaskTokens(2)
    filled = to_numpy(filling(visible, places))
    expected = np.where(mask_of(mask)[..., None] > 0, to_numpy(filling.token), x)
    np.testing.assert_array_equal(filled[:, 2:], expected)
    np.testing.assert_array_equal(filled[:, :2], tokens[:, :2])
    np.testing.assert_array_equal(
        to_numpy(take_tokens(x, ops.convert_to_tensor(kept))),
        np.take_along_axis(x, kept[..., None], axis=1),
    )


def mask_of(mask):
    return ops.convert_to_numpy(mask)


def test_masks_come_from_the_seed():
    tokens = np.zeros((4, 41, 2), "float32")

    def masks(seed, training):
        masking = RandomMasking(0.75, 1, seed)
        return [to_numpy(masking(tokens, training=training)[1]) for _ in range(2)]

    first, second = masks(3, True)
    assert (first != second).any() and (first[0] != first[1]).any()
    assert np.array_equal(masks(3, True), [first, second]) and (masks(4, True)[0] != first).any()
    first, second = masks(3, False)  # in inference they are always the same
    np.testing.assert_array_equal(first, second)
    assert first.sum() == 4 * 30


CASES = {
    "plain": {},
    "pixels": {"normalize_pixels": False, "seed": 5, "decoder_mlp_dim": 12},
    "positions": {"frozen_layers": ["position_embedding", "block00/norm1"]},
}


@pytest.mark.parametrize("arguments", once_but({k: (v,) for k, v in CASES.items()}, "plain"))
def test_contract(arguments, tmp_path):
    model = tiny_mae(**arguments)
    randomize(model)
    pixels = images()
    outputs = run(model, pixels)
    assert outputs["patches"].shape == (3, 6, 192) and outputs["mask"].shape == (3, 6)
    assert set(model.output) == {"patches", "mask"}

    # the configuration is exactly the constructor's arguments
    config = model.get_config()
    assert set(config) == set(inspect.signature(type(model)).parameters)
    assert type(model)(**config).get_config() == config
    for key, value in arguments.items():
        assert set(value) <= set(config[key]) if key == "frozen_layers" else config[key] == value

    # a step of training changes every weight that is not frozen, of the shared encoder too
    model.compile("adam", jit_compile=keras.backend.backend() == "jax")
    before = {weight.path: to_numpy(weight) for weight in model.weights}
    encoded = run(model.encoder, pixels)
    model.fit(pixels, verbose=0)
    after = {weight.path: to_numpy(weight) for weight in model.weights if "seed" not in weight.path}
    same = {path for path, x in after.items() if np.array_equal(x, before[path])}
    trained = {weight.path for weight in model.trainable_weights}
    assert same == after.keys() - trained
    assert not np.allclose(run(model.encoder, pixels), encoded)
    assert "decoder_position_embedding/grid" in same

    # a file restores everything, including the state of the optimizer and of the masks
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert json.dumps(loaded.get_config()) == json.dumps(config)
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(theirs), to_numpy(ours), err_msg=ours.path)
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_allclose(to_numpy(theirs), to_numpy(ours), atol=1e-7)
    a, b = (x.evaluate(pixels, verbose=0) for x in (model, loaded))
    np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_allclose(a, model.reconstruct(pixels)["loss"], rtol=1e-5)
    a, b = (x.fit(pixels, shuffle=False, verbose=0).history["loss"] for x in (model, loaded))
    np.testing.assert_allclose(a, b, rtol=1e-5)  # the next mask


@once
def test_only_visible_patches_go_through_the_encoder_and_no_other_is_read():
    model = tiny_mae()
    randomize(model)
    assert model.get_layer("norm").output is not None
    pixels = images()
    noise = np.random.default_rng(0).random((3, 6)).astype("float32")
    before = model.reconstruct(pixels, noise)
    hidden = np.repeat(np.repeat(before["mask"].reshape(3, 3, 2), 8, axis=1), 8, axis=2)
    other = np.where(hidden[..., None] > 0, 9.0, pixels).astype("float32")
    after = model.reconstruct(other, noise)
    np.testing.assert_array_equal(after["patches"], before["patches"])
    assert after["loss"] != before["loss"]
    shown = np.where(hidden[..., None] > 0, pixels, 9.0).astype("float32")
    assert not np.allclose(model.reconstruct(shown, noise)["patches"], before["patches"])


@once
@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_counts_removed_patches_alone(normalize):
    model = tiny_mae(normalize_pixels=normalize)
    randomize(model)
    pixels = images()
    found = model.reconstruct(pixels, np.random.default_rng(0).random((3, 6)))
    total = number = 0
    for b in range(3):
        for n in range(6):
            y, x = 8 * (n // 2), 8 * (n % 2)
            patch = pixels[b, y : y + 8, x : x + 8].reshape(-1).astype("float64")
            target = patch
            if normalize:
                target = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
            if found["mask"][b, n]:
                total, number = total + np.mean((found["patches"][b, n] - target) ** 2), number + 1
                shown = found["patches"][b, n]
                if normalize:
                    shown = shown * np.sqrt(patch.var(ddof=1) + 1e-6) + patch.mean()
            else:
                shown = patch
            piece = found["images"][b, y : y + 8, x : x + 8].reshape(-1)
            np.testing.assert_allclose(piece, shown, atol=1e-4)
    assert number == 12
    np.testing.assert_allclose(found["loss"], total / number, rtol=1e-5)


@once
def test_images_come_back_in_pixels():
    preprocessor = keras_vit.Preprocessor((24, 16), crop_fraction=1.0)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 16, 3)).astype("uint8")
    outside = tiny_mae(tiny_vit(num_classes=None, preprocessor=preprocessor))
    inside = tiny_mae(
        tiny_vit(num_classes=None, preprocessor=preprocessor, include_preprocessing=True)
    )
    inside.set_weights(outside.get_weights())
    found = [
        model.reconstruct(list(pixels), np.random.default_rng(0).random((2, 6)))
        for model in (outside, inside)
    ]
    for key in ("patches", "mask", "loss"):
        np.testing.assert_allclose(found[0][key], found[1][key], atol=2e-5)
    for x in found:
        visible = np.repeat(np.repeat(1 - x["mask"].reshape(2, 3, 2), 8, axis=1), 8, axis=2) > 0
        np.testing.assert_allclose(x["images"][visible], pixels[visible], atol=1e-2)
        assert x["images"].min() >= 0 and x["images"].max() <= 255


ENCODERS = {
    "no prefix": {"pooling": "gap"},
    "registers": {"num_registers": 2, "layer_scale": 0.1, "mlp": "swiglu"},
    "distilled": {"distillation_token": True},
    "computed positions": {"position_embedding": "sincos"},
    "no positions": {"position_embedding": None},
    "any size": {"image_size": None},
    "remainder": {"drop_remainder": True, "image_size": (27, 18)},
    "remat": {"remat": True},
    "classes": {"num_classes": 4},
}


@once
@pytest.mark.parametrize("arguments", ENCODERS.values(), ids=list(ENCODERS))
def test_encoders(arguments, tmp_path):
    model = tiny_mae(tiny_vit(**{"num_classes": None, **arguments}))
    size = arguments.get("image_size") or (24, 16)
    pixels = images(size)
    model.compile("adam")
    first = model.evaluate(pixels, verbose=0)
    model.fit(pixels, epochs=2, verbose=0)
    assert model.evaluate(pixels, verbose=0) < first
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(pixels, verbose=0) == model.evaluate(pixels, verbose=0)
    again = keras_vit.from_pretrained(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    if "image_size" in arguments and arguments["image_size"] is None:
        found = model.reconstruct(images((32, 40)))
        assert found["images"].shape == (3, 32, 40, 3) and found["mask"].sum() == 3 * 12


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@once
def test_mixed_precision(policy):
    model = keras_vit.MAE(
        tiny_vit(num_classes=None, dtype=policy), 8, 1, 2, mask_ratio=0.6, dtype=policy
    )
    pixels = images()
    outputs = model(pixels)
    assert {str(x.dtype).rpartition(".")[2] for x in outputs.values()} == {"float32"}
    model.compile("adam")
    losses = model.fit(pixels, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


@once
def test_the_encoder_stays_an_ordinary_model():
    encoder = tiny_vit()
    randomize(encoder)
    pixels = images()
    before = run(encoder, pixels)
    model = tiny_mae(encoder)
    assert model.encoder is encoder
    np.testing.assert_array_equal(run(encoder, pixels), before)
    assert encoder.features(pixels, ["block01"])["block01"].shape == (3, 7, 16)
    maps = keras_vit.attention_maps(encoder, pixels)
    assert len(maps) == 2
    assert encoder.get_config() == tiny_vit(name=encoder.name).get_config()


BAD = {
    "ratio 0": ({"mask_ratio": 0}, "mask_ratio must be a number above 0.*mask_ratio=0"),
    "ratio 1": ({"mask_ratio": 1.0}, "below 1.*mask_ratio=1.0"),
    "all patches": ({"mask_ratio": 0.9}, "leave at least one patch.*6 patches, of which 0"),
    "swin": ({"encoder": "swin"}, "SimMIM.*SwinTransformer"),
    "hybrid": ({"encoder": "hybrid"}, "SimMIM.*Hybrid"),
    "name": ({"encoder": "ResNet50"}, "name of a variant.*ResNet50"),
    "no model": ({"encoder": 3}, "model of keras_vit.*int"),
    "size": ({"image_size": 32}, "determines image_size"),
    "heads": ({"decoder_heads": 3}, "multiple"),
    "width": ({"decoder_width": 6}, "multiple of 4"),
    "depth": ({"decoder_depth": 0}, "decoder_depth must be"),
    "seed": ({"seed": "a"}, "seed must be"),
}


@once
@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=list(BAD))
def test_bad_arguments(arguments, message):
    if arguments.get("encoder") in ("swin", "hybrid"):
        arguments = {"encoder": tiny(arguments["encoder"])}
    with pytest.raises(ValueError, match=message):
        tiny_mae(**arguments)


@once
def test_other_bad_input():
    with pytest.raises(ValueError, match="fc_norm=False"):
        tiny_mae(tiny_vit(pooling="gap", fc_norm=True))
    with pytest.raises(ValueError, match="model of keras_vit"):
        keras_vit.MAE(tiny_mae())
    model = tiny_mae()
    with pytest.raises(ValueError, match="its own loss.*'mse'"):
        model.compile("adam", "mse")
    with pytest.raises(ValueError, match="its own loss"):
        model.compile("adam", metrics=["mae"])
    with pytest.raises(ValueError, match="6 numbers for each of 3 images.*shape=\\(3, 7\\)"):
        model.reconstruct(images(), np.zeros((3, 7)))
    with pytest.raises(ValueError, match="built for images"):
        model.reconstruct(images((32, 16)))
    with pytest.raises(ValueError, match="to take pictures|To take pictures"):
        model.reconstruct(["a.jpg"])


@once
def test_labels_are_ignored():
    model = tiny_mae()
    model.compile(keras.optimizers.SGD(0.0))
    pixels = images()
    labels = np.zeros((3, 4))
    assert model.evaluate(pixels, verbose=0) == model.evaluate(pixels, labels, verbose=0)
