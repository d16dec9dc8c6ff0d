"""What the caller or the configuration says comes before what counts suggest."""

import contextlib
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.matching import match
from keras_vit.checkpoints.readers.open import open_file
from keras_vit.checkpoints.vit.read import complete, infer
from keras_vit.checkpoints.writing import write_safetensors
from tests.checkpoints.helpers import GOLDEN, SOURCES, tensors
from tests.helpers import images, once, randomize, run, tiny_cait, tiny_swin, tiny_vit, to_numpy

pytestmark = once  # files are read the same way on every backend
BARE = {"preprocessor": None}  # which bare files do not say


def bare(model, folder, **config):
    """The file of weights alone, by timm's names; with `config` also these fields beside it."""
    folder = keras_vit.save_pretrained(model, folder, "timm")
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    if config:
        (folder / "config.json").write_text(json.dumps({**fields, **config}))
        return folder
    return folder / "model.safetensors"


def assert_loaded(loaded, model, size):
    pixels = images(size)
    np.testing.assert_allclose(run(loaded, pixels), run(model, pixels), atol=1e-5)


def test_a_grid_that_numbers_a_square_with_the_class_token(tmp_path):
    """2 x 4 patches and a class token are nine positions, as 3 x 3 patches are."""
    model = tiny_vit(image_size=(16, 32))
    randomize(model)
    file = bare(model, tmp_path / "model")
    loaded = keras_vit.from_pretrained(file, num_heads=2, image_size=(16, 32), **BARE)
    assert loaded.get_config()["position_embedding"] == "learned"
    assert loaded.load_report.resampled == []
    assert_loaded(loaded, model, (16, 32))
    by_grid = keras_vit.from_pretrained(
        file, num_heads=2, position_grid=(2, 4), image_size=(32, 32), **BARE
    )
    assert_loaded(by_grid, keras_vit.resize(model, (32, 32)), (32, 32))
    for said in ({}, {"image_size": (40, 40)}, {"position_embedding": "learned"}):
        message = (
            "3 x 3 patches alone, or of another grid and the token.*"
            "image_size=.*position_embedding='learned_patches'.*Received"
        )
        with pytest.raises(CheckpointError, match=message):
            keras_vit.from_pretrained(file, num_heads=2, **said, **BARE)
    # A standing model says it all.
    standing = tiny_vit(image_size=(16, 32))
    keras_vit.load_weights(standing, file)
    assert_loaded(standing, model, (16, 32))


def test_patches_alone_have_positions_where_it_is_said(tmp_path):
    """The counterpart: DeiT III's way, nine positions of 3 x 3 patches."""
    model = tiny_vit(image_size=24, position_embedding="learned_patches")
    randomize(model)
    file = bare(model, tmp_path / "model")
    for said in ({"image_size": 24}, {"position_embedding": "learned_patches"}):
        loaded = keras_vit.from_pretrained(file, num_heads=2, **said, **BARE)
        assert_loaded(loaded, model, (24, 24))
    standing = tiny_vit(image_size=24, position_embedding="learned_patches")
    keras_vit.load_weights(standing, file)
    assert_loaded(standing, model, (24, 24))
    # With registers patches alone have positions in all published models, and a square says so.
    model = tiny_vit(image_size=24, position_embedding="learned_patches", num_registers=4)
    file = bare(model, tmp_path / "registers")
    message = "2 x 2 patches and the 5 tokens.*or 3 x 3 patches alone"  # nine are both
    with pytest.raises(CheckpointError, match=message):
        keras_vit.from_pretrained(file, num_heads=2, **BARE)
    model = tiny_vit(image_size=32, position_embedding="learned_patches", num_registers=4)
    file = bare(model, tmp_path / "more")
    loaded = keras_vit.from_pretrained(file, num_heads=2, **BARE)
    assert_loaded(loaded, model, (32, 32))


def test_names_that_tell_are_enough():
    """DeiT III's authors and CaiT never have a position for the class token."""
    from keras_vit.checkpoints.cait import names as cait
    from keras_vit.checkpoints.vit import names as vit

    assert vit.TIMM.prefix_positions is None
    assert vit.DEIT3.prefix_positions is cait.TIMM_CAIT.prefix_positions is False
    assert vit.BIG_VISION.prefix_positions is False and vit.HF_VIT.prefix_positions is True


def test_another_shape_of_as_many_patches_is_the_source_s_and_said(tmp_path):
    """2 x 8 patches are as many as 4 x 4: the caller's word counts, with a warning."""
    model = tiny_vit(image_size=(16, 64))
    randomize(model)
    file = bare(model, tmp_path / "model")
    with pytest.warns(UserWarning, match="2 x 8 patches, as image_size=.*position_grid=\\(4, 4\\)"):
        loaded = keras_vit.from_pretrained(file, num_heads=2, image_size=(16, 64), **BARE)
    assert_loaded(loaded, model, (16, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        square = keras_vit.from_pretrained(
            file, num_heads=2, image_size=(16, 64), position_grid=(4, 4), **BARE
        )
    grid = to_numpy(model.get_layer("position_embedding").grid).reshape(4, 4, -1)
    np.testing.assert_array_equal(to_numpy(square.get_layer("position_embedding").grid), grid)


def test_stages_of_a_pyramid_too(tmp_path):
    model = keras_vit.PyramidVisionTransformer(
        image_size=(32, 128),
        widths=(8, 8, 8, 8),
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 1),
        conv_norm_epsilon=1e-6,
        num_classes=3,
    )
    randomize(model)
    folder = keras_vit.save_pretrained(keras_vit.resize(model, (64, 64)), tmp_path / "hf", "hf")
    arrays = tensors(folder)
    for s in range(4):  # the grids of 32 x 128 pixels, as many as those of 64 x 64
        layer = model.get_layer(f"stage{s}_position_embedding")
        grid = to_numpy(layer.grid).reshape(1, -1, 8)
        prefix = to_numpy(layer.prefix)[None] if s == 3 else grid[:, :0]
        name = f"pvt.encoder.patch_embeddings.{s}.position_embeddings"
        arrays[name] = np.concatenate([prefix, grid], axis=1)
    write_safetensors(tmp_path / "bare.safetensors", arrays, {})
    with pytest.warns(UserWarning, match="8 x 32 patches.*position_grid=\\(16, 16\\)"):
        loaded = keras_vit.from_pretrained(
            tmp_path / "bare.safetensors", num_heads=(1,) * 4, image_size=(32, 128), **BARE
        )
    assert loaded.load_report.resampled == []
    assert_loaded(loaded, model, (32, 128))


def test_windows_of_tables_and_of_whoever_speaks(tmp_path):
    model = tiny_swin(image_size=(16, 32), window_size=4, convention="timm")
    randomize(model)
    file = bare(model, tmp_path / "model")  # windows of 4 x 4 and 2 x 4
    with pytest.raises(CheckpointError, match="pass the source's window_size= and image_size="):
        keras_vit.from_pretrained(file, **BARE)
    loaded = keras_vit.from_pretrained(file, image_size=(16, 32), window_size=4, **BARE)
    assert loaded.load_report.resampled == []
    assert_loaded(loaded, model, (16, 32))
    standing = tiny_swin(image_size=(16, 32), window_size=4, convention="timm")
    keras_vit.load_weights(standing, file)
    assert_loaded(standing, model, (16, 32))


@pytest.mark.parametrize("convention", ["authors", "timm"])
def test_windows_that_the_tables_contradict_are_no_reason_to_resample(convention, tmp_path):
    model = tiny_swin(convention=convention)
    written = keras_vit.save_pretrained(
        model, tmp_path / "said", "timm" if convention == "timm" else "hf"
    )
    config = json.loads((written / "config.json").read_text())
    (config["model_args"] if convention == "timm" else config)["window_size"] = 3
    (written / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="bias tables.*Received: \\(49, 49\\).*window_size"):
        keras_vit.from_pretrained(written)


def test_heads_that_tensors_tell_are_not_overruled(tmp_path):
    source = GOLDEN / "bv_gap" / "model.npz"
    with pytest.raises(CheckpointError, match="num_heads=4, as the tensors.*num_heads=2"):
        keras_vit.from_pretrained(source, num_heads=2)
    model = tiny_cait()
    folder = bare(model, tmp_path / "cait", architecture="cait_xxs24_224")
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["num_heads"] = 4
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="num_heads=2, as the tensors.*num_heads=4"):
        keras_vit.from_pretrained(folder)


def test_the_caller_s_heads_come_before_those_of_a_published_size():
    """ViT-S has six heads, but MoCo v3's, of the same shapes, twelve."""
    with contextlib.closing(open_file(GOLDEN / "torch_zip/model.pth")) as reader:
        inferred = infer(match(reader.tensors, ""), reader.tensors)
    inferred.update(width=384, depth=12, mlp_dim=1536)
    for said, heads in (({"num_heads": 12}, 12), ({}, 6)):
        said["image_size"] = (24, 16)
        assert complete(inferred, None, said, "")["num_heads"] == heads


def test_what_was_guessed_is_reported(tmp_path):
    file = bare(tiny_vit(image_size=24), tmp_path / "model")
    guessed = keras_vit.from_pretrained(file, num_heads=2, **BARE).load_report
    assert "guessed, because the source does not say it: image_size=(24, 24)" in guessed.summary()
    said = keras_vit.from_pretrained(file, num_heads=2, image_size=24, **BARE).load_report
    assert said.notes == []


def test_our_own_files_are_held_against_a_standing_model(tmp_path):
    tiny_vit(num_heads=4).save(tmp_path / "model.keras")
    model = tiny_vit(num_heads=2)
    with pytest.raises(CheckpointError, match="'num_heads': 4.*Received: {'num_heads': 2}"):
        keras_vit.load_weights(model, tmp_path / "model.keras")


# A ResNet has the epsilon of its paper's code alone.
@pytest.mark.parametrize("family", [family for family in SOURCES if family != "resnet"])
def test_arithmetic_that_a_source_leaves_to_its_library_is_compared_too(family, tmp_path):
    """timm's configurations say no epsilon: it is the one that `from_pretrained` takes."""
    source = GOLDEN.parent / SOURCES[family]
    own = keras_vit.from_pretrained(source).get_config()["norm_epsilon"]
    model = keras_vit.from_pretrained(source, norm_epsilon=0.125)
    before = [to_numpy(weight) for weight in model.weights]
    with pytest.raises(CheckpointError, match=f"norm_epsilon': {own}.*Received: .*epsilon': 0.125"):
        keras_vit.load_weights(model, source)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), value)
    # A file alone says nothing of it: the caller's model counts, and the report tells.
    shutil.copy(source / "model.safetensors", tmp_path)
    for epsilon, told in ((0.125, True), (own, False)):
        standing = type(model).from_config({**model.get_config(), "norm_epsilon": epsilon})
        report = keras_vit.load_weights(standing, tmp_path / "model.safetensors")
        note = "norm_epsilon=0.125 is the model's; the source does not say it, and from_pretrained"
        assert any(note in x for x in report.notes) == told
        assert report.notes == [] or told


def test_a_configuration_s_class_without_positions_is_held_against_the_count(tmp_path):
    model = tiny_vit(image_size=24, position_embedding="learned_patches")
    folder = bare(model, tmp_path / "model", global_pool="token")
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["no_embed_class"] = False
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="9 position embeddings, which do not fit 3 x 3"):
        keras_vit.from_pretrained(folder)


def test_wrappers_and_chunks_around_the_names(tmp_path):
    model = tiny_vit()
    randomize(model)
    arrays = tensors(Path(bare(model, tmp_path / "model")).parent)
    said = {"num_heads": 2, "image_size": (24, 16), **BARE}
    for wrapper in ("_orig_mod.", "module.base_encoder."):
        wrapped = {wrapper + name: value for name, value in arrays.items()}
        other = {  # a second copy, which is not the one to take
            f"student.backbone.{name}": value * 0 for name, value in arrays.items()
        }
        write_safetensors(tmp_path / "x.safetensors", {**other, **wrapped}, {})
        message = f"several models: .*prefix='{wrapper}' or prefix='student.backbone.'"
        with pytest.raises(CheckpointError, match=message):
            keras_vit.from_pretrained(tmp_path / "x.safetensors", **said)
        loaded = keras_vit.from_pretrained(tmp_path / "x.safetensors", prefix=wrapper, **said)
        assert_loaded(loaded, model, (24, 16))
        reasons = set(loaded.load_report.dropped.values())
        assert reasons == {f"stands outside of {wrapper}, where the model is"}
        wrapped[f"{wrapper}new"] = wrapped.pop(
            f"{wrapper}norm.bias"
        )  # within it nothing is left out
        write_safetensors(tmp_path / "x.safetensors", wrapped, {})
        with pytest.raises(CheckpointError, match=f"norm/beta(.|\n)*{wrapper}new"):
            keras_vit.from_pretrained(tmp_path / "x.safetensors", **said)
    chunked = {
        name.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): value
        for name, value in arrays.items()
    }
    write_safetensors(tmp_path / "x.safetensors", chunked, {})
    assert_loaded(keras_vit.from_pretrained(tmp_path / "x.safetensors", **said), model, (24, 16))
