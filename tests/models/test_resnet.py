"""ResNet: features, what is frozen, and what a model without attention says when asked for it."""

import numpy as np
import pytest

import keras_vit
from keras_vit.optimizers import layer_shares
from tests.helpers import images, once, randomize, tiny, to_numpy


def test_features_and_pyramid_of_any_size():
    model = tiny("resnet", image_size=None)
    randomize(model)
    for size, maps in (((24, 16), [(6, 4), (3, 2)]), ((33, 18), [(9, 5), (5, 3)])):
        pyramid = model.pyramid(images(size))
        assert [tuple(x.shape[1:]) for x in pyramid.values()] == [
            (*maps[0], 16),
            (*maps[1], 24),
        ]
    blocks = ["stage0_block00", "stage1_block00", "stage1_block01"]
    assert list(model.features(images())) == blocks
    assert model.token_layout("stage1_block00").patch_size == (8, 8)
    assert model.token_layout("stage1_block00").grid_of((33, 18)) == (4, 2)  # whole patches
    assert tiny("resnet").token_layout("stage1_block00").grid_size == (3, 2)


@once
def test_dilation_keeps_the_resolution_and_the_weights():
    for block in ("bottleneck", "basic"):
        model = tiny("resnet", dilation=True, block=block)
        assert tuple(model.pyramid(images())["stage1"].shape[1:3]) == (6, 4)
        assert model.token_layout("stage1_block01").patch_size == (4, 4)
        plain = tiny("resnet", block=block)
        assert [w.shape for w in plain.weights] == [w.shape for w in model.weights]
        assert keras_vit.complexity(model).macs > keras_vit.complexity(plain).macs


@once
def test_a_block_starts_as_its_shortcut_unless_it_is_frozen():
    for batch_norm, scale in (("learning", 0.0), ("frozen", 1.0)):
        for block, norm in (("bottleneck", "norm3"), ("basic", "norm2")):
            model = tiny("resnet", batch_norm=batch_norm, block=block)
            gamma = getattr(model.get_layer("stage0_block00"), norm).gamma
            assert (to_numpy(gamma) == scale).all()


@once
def test_rates_and_learning_rates_reach_the_blocks():
    model = tiny("resnet", drop_path_rate=0.8, dropout_rate=0.3)
    blocks = [model.get_layer(x) for x in ("stage0_block00", "stage1_block00", "stage1_block01")]
    np.testing.assert_allclose([x.drop_path.rate for x in blocks], [0, 0.4, 0.8])
    assert model.get_layer("dropout").rate == 0.3
    shares = layer_shares(model, 0.5)
    owners = [w.path.split("/")[0] for w in model.trainable_weights]
    by_layer = dict(zip(owners, shares, strict=True))
    assert by_layer == {
        "stem": 0.0625,
        "stage0_block00": 0.125,
        "stage1_block00": 0.25,
        "stage1_block01": 0.5,
        "head": 1.0,
    }


@once
def test_what_needs_attention_says_that_there_is_none():
    model = tiny("resnet")
    randomize(model)
    for ask in (keras_vit.attention_maps, keras_vit.attention_rollout):
        with pytest.raises(ValueError, match="no transformer blocks.*Received: "):
            ask(model, images())
    relevance = keras_vit.grad_cam(model, images(), classes=1)
    assert relevance.shape == (3, 3, 2) and relevance.max() > 0
    finer = keras_vit.grad_cam(model, images(), classes=1, layer="stage0_block00")
    assert finer.shape == (3, 6, 4)
    assert keras_vit.complexity(model).scores_bytes == 0


@once
def test_freezing_stem_and_stage_and_unfreezing():
    model = tiny("resnet", frozen_layers=["stem", "stage0_block00"])
    paths = {w.path.split("/")[0] for w in model.trainable_weights}
    assert paths == {"stage1_block00", "stage1_block01", "head"}
    # statistics of frozen layers stay, of others they follow
    before = {w.path: to_numpy(w) for w in model.weights}
    model.compile("sgd", "mse")
    model.fit(images(), np.ones((3, 4)), verbose=0)
    for weight in model.weights:
        if "/moving_" in weight.path:
            stays = weight.path.startswith(("stem/", "stage0_block00/"))
            assert (to_numpy(weight) == before[weight.path]).all() == stays, weight.path
    frozen = tiny("resnet", batch_norm="frozen")
    frozen.trainable = False
    frozen.trainable = True
    assert not any("/norm" in w.path for w in frozen.trainable_weights)
    assert frozen.get_config()["frozen_layers"] == []


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": "wide"}, "block must be one of 'bottleneck', 'basic'.*'wide'"),
        ({"widths": (16, 18)}, "multiple of 4. Received: filters=18"),
        ({"widths": (16,)}, "widths must hold one number for each stage"),
        ({"depths": (0, 1)}, "depths must be an integer >= 1"),
        ({"batch_norm": None}, "'learning', 'frozen'.*None"),
        ({"dilation": 2}, "dilation must be one of False, True.*2"),
        ({"stem_width": 0}, "stem_width must be an integer >= 1"),
        ({"dropout_rate": 1}, "dropout_rate must be"),
        ({"image_size": 0}, "image_size must be a positive integer"),
    ],
)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny("resnet", **arguments)
