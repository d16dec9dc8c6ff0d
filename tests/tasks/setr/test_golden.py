"""The numbers of a restatement of both sources: outputs, losses, moving statistics, files."""

import keras
import numpy as np
import pytest
import torch

import keras_vit
from tests.checkpoints import everywhere
from tests.checkpoints.helpers import tensors
from tests.helpers import once, once_but, run, to_numpy
from tests.tasks.setr.helpers import CASES, GOLDEN, golden, inputs

MOVING = {"moving_mean": "running_mean", "moving_variance": "running_var"}


def state(case):
    """dict of name to array of a golden checkpoint."""
    content = torch.load(GOLDEN / case / "setr.pth", weights_only=True)
    return {name: x.numpy() for name, x in content["state_dict"].items()}


def test_there_is_a_case_for_every_decoder_of_every_convention():
    assert set(CASES) == set(everywhere.SETR)


@pytest.mark.parametrize("case", everywhere.SETR)
def test_equals_the_source_in_inference_and_training(case):
    model, expected = golden(case)
    assert not model.load_report.fresh
    config = model.get_config()
    assert [config["convention"], config["decoder"]] == case.split("_")
    images = inputs(expected["pixels"])
    np.testing.assert_allclose(run(model, images), expected["logits"], atol=2e-5)

    # the heads outside of training, whose batch normalisation then has the moving statistics
    heads = keras.Model(model.input, model.training_model.output)
    found = run(heads, images)
    np.testing.assert_allclose(found["main"], expected["logits"], atol=2e-5)
    assert len(found["auxiliary"]) == sum(x.startswith("auxiliary") for x in expected)
    for i, logits in enumerate(found["auxiliary"]):
        np.testing.assert_allclose(logits, expected[f"auxiliary{i}"], atol=2e-5)

    trained = model(images, training=True)  # which moves the statistics a first time
    np.testing.assert_allclose(to_numpy(trained["main"]), expected["train_logits"], atol=2e-5)
    for i, logits in enumerate(trained["auxiliary"]):
        expected_logits = expected[f"train_auxiliary{i}"]
        np.testing.assert_allclose(to_numpy(logits), expected_logits, atol=2e-5)


# Steps are compiled: aligned corners and all parts of MLA, and the other convention.
@pytest.mark.parametrize("case", once_but(CASES, "authors_mla", "mmseg_naive"))
def test_a_step_of_fit_has_the_loss_of_the_source_and_moves_statistics_as_it_does(case):
    model, expected = golden(case)
    model.compile(keras.optimizers.SGD(0.0), jit_compile=keras.backend.backend() == "jax")
    images, labels = inputs(expected["pixels"]), expected["labels"].astype("int32")
    history = model.fit(images, labels, batch_size=len(images), verbose=0).history
    np.testing.assert_allclose(history["loss"], expected["loss_valid"], rtol=1e-5)
    weights = {weight.path: weight for weight in model.weights}
    named = {
        sources[0]: path for sources, targets in model.load_report.used for path in targets[:1]
    }
    moving = {x.removeprefix("moving/"): expected[x] for x in expected if x.startswith("moving/")}
    assert len(moving) == sum(path.rpartition("/")[2] in MOVING for path in weights)
    for name, value in moving.items():
        np.testing.assert_allclose(to_numpy(weights[named[name]]), value, atol=1e-5, err_msg=name)


@once
@pytest.mark.parametrize("case", CASES)
def test_the_loss_over_all_pixels_is_that_of_the_sources(case):
    model, expected = golden(case)
    model.compile(keras.optimizers.SGD(0.0), average="all")
    images, labels = inputs(expected["pixels"]), expected["labels"].astype("int32")
    np.testing.assert_allclose(
        model.train_on_batch(images, labels), expected["loss_all"], rtol=1e-5
    )


@pytest.mark.parametrize("case", ["authors_pup", "mmseg_mla"])
@pytest.mark.parametrize("image_size", [(20, 24), None])
def test_another_size_resamples_positions_as_the_sources_do(case, image_size):
    model, expected = golden(case, image_size=image_size)
    resampled = ["position_embedding/grid"] if image_size else []
    assert model.load_report.resampled == resampled
    logits = run(model, inputs(expected["other_pixels"]))
    np.testing.assert_allclose(logits, expected["other_logits"], atol=2e-5)


@once
@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("authors")])
def test_gives_back_the_file_of_the_authors(case, tmp_path):
    model, _ = golden(case)
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format="authors")
    ours, theirs = tensors(folder), state(case)
    left_out = {x for x in theirs if "conv_seg" in x or "num_batches_tracked" in x}
    assert set(ours) == set(theirs) - left_out
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@once
def test_a_file_without_auxiliary_heads_gives_a_model_without(tmp_path):
    model, expected = golden("authors_mla", auxiliary_heads=False)
    dropped = set(model.load_report.dropped.values())
    assert "auxiliary_heads=False" in dropped and len(model.load_report.dropped) > 4
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format="authors")
    again = keras_vit.from_pretrained(folder / "model.safetensors", num_heads=2)
    assert again.get_config()["auxiliary_heads"] is False
    np.testing.assert_allclose(
        run(again, inputs(expected["pixels"])), expected["logits"], atol=2e-5
    )
    more = keras_vit.from_pretrained(
        folder / "model.safetensors", num_heads=2, auxiliary_heads=True
    )
    assert {path.split("/")[0] for path in more.load_report.fresh} == {
        f"auxiliary_head{i}" for i in range(4)
    }
    assert np.abs(to_numpy(more.get_layer("auxiliary_head0").weights[0])).max() > 0  # initialised


@once
@pytest.mark.parametrize("case", ["authors_mla", "mmseg_pup"])
def test_other_classes_begin_new_classifiers(case):
    model, expected = golden(case, num_classes=7)
    assert {path.split("/")[1] for path in model.load_report.fresh} == {"classifier"}
    assert model(inputs(expected["pixels"])).shape == (2, 16, 16, 7)


@once
@pytest.mark.parametrize("case", CASES)
def test_loads_into_a_standing_model(case):
    model, expected = golden(case)
    config = model.get_config()
    other = type(model).from_config(config)
    report = keras_vit.load_weights(other, GOLDEN / case / "setr.pth")
    assert not report.fresh
    images = inputs(expected["pixels"])
    np.testing.assert_allclose(run(other, images), expected["logits"], atol=2e-5)


@once
def test_an_unknown_or_missing_tensor_is_named(tmp_path):
    content = torch.load(GOLDEN / "authors_pup" / "setr.pth", weights_only=True)
    tensors = content["state_dict"]
    del tensors["decode_head.conv_2.bias"]
    tensors["decode_head.conv_9.bias"] = torch.zeros(3)
    torch.save(content, tmp_path / "broken.pth")
    with pytest.raises(ValueError, match="(?s)decoder/conv2/conv/bias.*conv_9.bias"):
        keras_vit.from_pretrained(tmp_path / "broken.pth", num_heads=2)
