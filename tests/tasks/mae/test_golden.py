"""The numbers of transformers and of the authors: masks, predictions, losses, files."""

import json

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.tasks import reconstruction
from tests.checkpoints import everywhere
from tests.checkpoints.helpers import tensors
from tests.helpers import once, run, to_numpy
from tests.tasks.mae.helpers import CASES, GOLDEN, UNSAID, golden, source


@once
def test_every_golden_file_is_loaded_everywhere():
    assert set(CASES) == set(everywhere.MAE)


@pytest.mark.parametrize("case", everywhere.MAE)
def test_equals_the_source(case):
    model, expected = golden(case)
    assert not model.load_report.fresh and not model.load_report.dropped
    assert isinstance(model, keras_vit.MAE)
    found = model.reconstruct(expected["images"], expected["noise"])
    np.testing.assert_array_equal(found["mask"], expected["mask"])
    np.testing.assert_allclose(found["patches"], expected["patches"], atol=1e-5)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
    # positions are fixed in both sources
    frozen = {weight.path for weight in model.weights} - {x.path for x in model.trainable_weights}
    assert {x for x in frozen if "seed" not in x} == {
        f"{prefix}position_embedding/{name}"
        for prefix in ("", "decoder_")
        for name in ("grid", "prefix")
    }


@once
@pytest.mark.parametrize("case", CASES)
def test_a_wrong_model_has_other_numbers(case, monkeypatch):
    """The golden files tell these faults."""
    model, expected = golden(case)

    def loss_and_patches():
        found = model.reconstruct(expected["images"], expected["noise"])
        return found["loss"] - expected["loss"], np.abs(found["patches"] - expected["patches"])

    for path in ("decoder_position_embedding/grid", "position_embedding/grid", "mask_token/token"):
        weight = next(w for w in model.weights if w.path == path)
        value = to_numpy(weight)
        for wrong in (0 * value, np.swapaxes(value, 0, 1) if value.ndim == 3 else -value):
            weight.assign(wrong)
            assert loss_and_patches()[1].max() > 1e-3, path
        weight.assign(value)
    assert loss_and_patches()[1].max() < 1e-5
    if model.normalize_pixels:
        monkeypatch.setattr(reconstruction, "EPSILON", 1e-5)
        assert abs(loss_and_patches()[0]) > 1e-4 * expected["loss"]
    epsilon = model.encoder.get_config()["norm_epsilon"]
    other, _ = golden(case, norm_epsilon=1e-12 if epsilon == 1e-6 else 1e-6)
    found = other.reconstruct(expected["images"], expected["noise"])["patches"]
    assert np.abs(found - expected["patches"]).max() > 1e-5


@pytest.mark.parametrize("case", ["authors", "hf_saved"])
def test_writes_what_the_source_reads(case, tmp_path):
    model, expected = golden(case)
    form = "authors" if case == "authors" else "hf"
    keras_vit.save_pretrained(model, tmp_path / "out", format=form)
    path, said = (tmp_path / "out" / "model.safetensors", UNSAID) if case == "authors" else ({}, {})
    path = path or tmp_path / "out"
    again = keras_vit.from_pretrained(path, preprocessor=None, **said)
    found = again.reconstruct(expected["images"], expected["noise"])
    np.testing.assert_allclose(found["patches"], expected["patches"], atol=1e-5)
    written = tensors(tmp_path / "out")
    assert ("decoder_blocks.0.attn.qkv.weight" in written) == (case == "authors")
    if form == "hf":  # with the names of the hub
        prefix = "decoder.decoder_layers.1.attention.attention"
        assert f"{prefix}.query.weight" in written and "vit.layernorm.bias" in written
        config = json.loads((tmp_path / "out" / "config.json").read_text())
        theirs = json.loads((GOLDEN / case / "config.json").read_text())
        for key in theirs.keys() - {"initializer_range", "transformers_version"}:
            assert config[key] == theirs[key], key


@once
@pytest.mark.parametrize("case", CASES)
def test_encoder_and_classifier_of_a_whole_source(case, tmp_path):
    model, expected = golden(case)
    images = expected["images"]
    said = {"num_heads": 4} if case == "authors" else {}
    load = lambda path, **arguments: keras_vit.from_pretrained(  # noqa: E731
        path, preprocessor=None, **said, **arguments
    )
    encoder = load(source(case), part="encoder")
    np.testing.assert_allclose(run(encoder, images), run(model.encoder, images), atol=1e-6)
    assert "decoder_" in " ".join(encoder.load_report.dropped)

    # fine-tuning: the mean of the patches, then a normalisation of its own and no other
    said |= {}
    tuned = load(source(case), num_classes=5)
    assert tuned.get_config()["pooling"] == "gap" and tuned.get_config()["fc_norm"]
    names = [layer.name for layer in tuned.layers]
    assert "norm" not in names and names[-3:] == ["pool", "fc_norm", "head"]
    assert {x.partition("/")[0] for x in tuned.load_report.fresh} == {"fc_norm", "head"}
    blocks = keras.Model(model.encoder.input, model.encoder.get_layer("block01").output)
    mean = run(blocks, images)[:, 1:].mean(axis=1)
    pooled = keras.Model(tuned.input, tuned.get_layer("pool").output)
    np.testing.assert_allclose(run(pooled, images), mean, atol=1e-5)
    # the probe: the class token, normalised
    probe = load(source(case), num_classes=5, pooling="token")
    assert {x.partition("/")[0] for x in probe.load_report.fresh} == {"head"}
    pooled = keras.Model(probe.input, probe.get_layer("pool").output)
    np.testing.assert_allclose(run(pooled, images), run(encoder, images), atol=1e-6)

    # the same of our own file
    model.save(tmp_path / "model.keras")
    said.clear()
    whole = load(tmp_path / "model.keras")
    found = whole.reconstruct(images, expected["noise"])
    np.testing.assert_allclose(found["patches"], expected["patches"], atol=1e-5)
    alone = load(tmp_path / "model.keras", part="encoder")
    np.testing.assert_allclose(run(alone, images), run(encoder, images), atol=1e-6)
    small = load(tmp_path / "model.keras", num_classes=5, image_size=16)
    assert small.get_config()["fc_norm"] and small.load_report.resampled
    assert str(tmp_path / "model.keras") in small.load_report.summary()

    # a standing model takes the encoder's weights too
    empty = keras_vit.VisionTransformer(**encoder.get_config())
    keras_vit.load_weights(empty, source(case))
    np.testing.assert_allclose(run(empty, images), run(encoder, images), atol=1e-6)


@once
def test_what_contradicts_the_tensors_is_refused(tmp_path):
    for key, value in (
        ("decoder_hidden_size", 13),
        ("decoder_num_hidden_layers", 1),
        ("decoder_intermediate_size", 24),
        ("decoder_num_attention_heads", 5),
        ("mask_ratio", 1.0),
        ("norm_pix_loss", "yes"),
    ):
        folder = tmp_path / key
        folder.mkdir()
        for file in (GOLDEN / "hf_hub").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        config = json.loads((folder / "config.json").read_text()) | {key: value}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="decoder_|mask_ratio|normalize_pixels|multiple"):
            keras_vit.from_pretrained(folder, preprocessor=None)
