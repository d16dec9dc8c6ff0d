"""The optimizer of DETR's recipes: rates by part, decay on everything, a schedule that drops."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.optimizers import WarmupSchedule, backbone_shares
from tests.helpers import once, randomize, tiny_vit
from training.recipe.optimizers import optimizer


def segmenter():
    return keras_vit.SETR(tiny_vit(num_classes=None), "naive", num_classes=3, decoder_width=4)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_backbone_learns_at_a_tenth_of_the_rate(name):
    model = segmenter()
    before = [ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
    rule = {"name": name, "learning_rate": 0.1, "schedule": "constant", "nesterov": False}
    found = optimizer(model, 10, **rule, backbone_rate=0.1)
    found.apply([ops.ones(v.shape) for v in model.trainable_variables], model.trainable_variables)
    encoder = {layer.name for layer in model.encoder_layers}
    parts = set()
    for old, v in zip(before, model.trainable_variables, strict=True):
        part = v.path.partition("/")[0]
        parts.add(part in encoder)
        distance = float(np.mean(old - ops.convert_to_numpy(v)))
        assert distance == pytest.approx(0.01 if part in encoder else 0.1, rel=1e-3), v.path
    assert parts == {True, False}


@once
def test_parts_of_a_detector_are_no_backbone():
    """Named here by path, so that the table of the model's docstring decides."""
    paths = ["input_projection/kernel", "positions/rows", "encoder_block00/mlp/fc1/kernel"]
    paths += ["queries/embeddings", "query_groups/embeddings", "decoder_block01/norm3/gamma"]
    paths += ["decoder_norm/beta", "class_head/bias", "box_head/fc3/kernel", "denoising/labels"]
    backbone = ["stem/conv/kernel", "stage0_block00/norm1/gamma", "position_embedding/table"]
    backbone += ["block00/attention/qkv/kernel", "patch_embedding/projection/kernel"]

    class Named:
        def __init__(self, path):
            self.path = path

    class Model:
        trainable_variables = [Named(path) for path in [*paths, *backbone]]

    assert backbone_shares(Model, 0.1) == [1.0] * len(paths) + [0.1] * len(backbone)


@once
@pytest.mark.parametrize("rates", [{}, {"backbone_rate": 0.5}], ids=["plain", "by part"])
def test_decay_on_everything(rates):
    for decay_all in (True, False):
        model = segmenter()
        randomize(model)
        kept = {v.path: ops.convert_to_numpy(v).copy() for v in model.trainable_variables}
        rule = {"schedule": "constant", "weight_decay": 0.5, **rates}
        found = optimizer(model, 10, "adamw", 0.1, **rule, decay_all=decay_all)
        gradients = [ops.zeros(v.shape) for v in model.trainable_variables]
        found.apply(gradients, model.trainable_variables)
        spared = 0
        for v, share in zip(
            model.trainable_variables,
            backbone_shares(model, rates.get("backbone_rate", 1.0)),
            strict=True,
        ):
            decays = decay_all or keras_vit.optimizers.decays(v.path)
            factor = 1 - 0.1 * share * 0.5 * decays
            spared += not decays
            found_now = ops.convert_to_numpy(v)
            np.testing.assert_allclose(found_now, kept[v.path] * factor, rtol=1e-5, atol=1e-7)
        assert (spared == 0) == decay_all


@once
def test_a_schedule_that_drops_once():
    """StepLR of the authors: a tenth from epoch 200 of 300 on."""
    schedule = WarmupSchedule(1e-4, 300, shape="step")
    found = [float(schedule(step)) for step in (0, 199, 200, 299)]
    np.testing.assert_allclose(found, [1e-4, 1e-4, 1e-5, 1e-5], rtol=1e-6)
    schedule = WarmupSchedule(1.0, 500, 10, "step", drop_at=0.8)
    found = [float(schedule(step)) for step in (5, 10, 399, 400)]
    np.testing.assert_allclose(found, [0.5, 1, 1, 0.1], rtol=1e-6)
    again = WarmupSchedule.from_config(schedule.get_config())
    assert again.drop_at == 0.8 and float(again(400)) == pytest.approx(0.1)
    old = {key: value for key, value in schedule.get_config().items() if key != "drop_at"}
    assert WarmupSchedule.from_config(old).drop_at == pytest.approx(2 / 3)  # of files before it
    with pytest.raises(ValueError, match=r"drop_at must be in \(0, 1\)"):
        WarmupSchedule(1.0, 10, shape="step", drop_at=1.0)


@once
def test_what_has_no_rates_by_part():
    for name in ("lion", "muon"):
        with pytest.raises(ValueError, match="backbone_rate needs optimizer.name='adamw' or 'sgd'"):
            optimizer(segmenter(), 10, name, backbone_rate=0.1)
    muon = optimizer(tiny_vit(), 10, "muon", decay_all=True, weight_decay=0.1)
    assert isinstance(muon, keras.optimizers.Muon)
