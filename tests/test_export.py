import importlib

import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import images, randomize, tiny_hybrid, tiny_swin, tiny_vit
from tests.models import test_cait, test_pvt

export_module = importlib.import_module("keras_vit.export")  # keras_vit.export is the function


def run_plain(path, pixels):
    tf = pytest.importorskip("tensorflow")
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    (outputs,) = serve(**{name: tf.constant(pixels)}).values()
    return outputs.numpy()


def test_saved_model_gives_the_models_logits_at_any_size_and_batch(tmp_path):
    model = tiny_vit(image_size=None, num_registers=1, remat=True)
    randomize(model)
    report = keras_vit.export(model, tmp_path / "saved_model", samples=images(batch=5))
    assert report.max_difference < 1e-5 and report.top1_agreement == 1
    assert report.size_bytes > 10_000 and "largest difference" in str(report)
    for size, batch in [((24, 16), 1), ((16, 40), 4)]:
        pixels = images(size, batch)
        expected = model.predict(pixels, verbose=0)
        np.testing.assert_allclose(run_plain(report.path, pixels), expected, atol=1e-5)
    with pytest.raises(Exception, match="reshape|multiple"):
        run_plain(report.path, images((25, 16)))
    assert [x.name for x in tmp_path.iterdir()] == ["saved_model"]  # nothing left over

    with pytest.raises(ValueError, match="must not exist yet.*Received: .*saved_model"):
        keras_vit.export(model, tmp_path / "saved_model")


FAMILIES = {
    "deit": lambda: tiny_vit(distillation_token=True),
    "swin": lambda: tiny_swin(image_size=None),
    "pvt": lambda: test_pvt.tiny(1),
    "pvt_v2": lambda: test_pvt.tiny(2, image_size=None),
    "hybrid": lambda: tiny_hybrid(image_size=None),
    "cait": lambda: test_cait.tiny_cait(),
}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="slow elsewhere")
@pytest.mark.parametrize(
    "family",
    [pytest.param(x, marks=[] if x == "swin" else [pytest.mark.slow]) for x in FAMILIES],
)
def test_every_family_exports_to_the_same_numbers(family, tmp_path):
    model = FAMILIES[family]()
    randomize(model)
    size = model.input.shape[1:3] if model.input.shape[1] else (32, 64)
    report = keras_vit.export(model, tmp_path / "saved_model", samples=images(size, batch=2))
    pixels = images(size, batch=3, seed=1)
    expected = model.predict(pixels, verbose=0)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(run_plain(report.path, pixels), expected, atol=1e-4)


def test_what_does_not_agree_is_not_kept(tmp_path, monkeypatch):
    model = tiny_vit()

    def lie(written, samples, scratch):
        return model.predict(samples, verbose=0) + 0.01

    monkeypatch.setattr(export_module, "_write_saved_model", lambda model, written, _: None)
    monkeypatch.setattr(export_module, "_run_saved_model", lie)
    with pytest.raises(ValueError, match="nothing was kept.*Received: 1.00e-02"):
        keras_vit.export(model, tmp_path / "saved_model")
    assert not list(tmp_path.iterdir())


def test_a_failing_process_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "RUN_WITH_PLAIN_TENSORFLOW", "raise SystemExit('no disk')")
    monkeypatch.setattr(export_module, "_write_saved_model", lambda model, written, _: None)
    with pytest.raises(ValueError, match="no disk"):
        keras_vit.export(tiny_vit(), tmp_path / "saved_model")
    assert not list(tmp_path.iterdir())


def test_bad_input_is_explained(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="format must be one of 'saved_model'. Received.*'onnxx'"):
        keras_vit.export(tiny_vit(), tmp_path / "x", format="onnxx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="keras_vit\\[tensorflow\\]"):
        keras_vit.export(tiny_vit(), tmp_path / "x")
    assert keras.backend.backend() in ("tensorflow", "jax", "torch")
