import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import listing
from tests.helpers import backends, once, tiny_cait, tiny_hybrid, tiny_swin, tiny_vit

pytestmark = once  # counts are of shapes; no backend has a part in them
everywhere = backends("tensorflow", "jax", "torch")  # whose tracing gives the shapes

# GMACs as timm publishes them (its benchmark tables, attention counted).
PUBLISHED = {
    "ViTBase": 17.58,
    "ViTLarge": 61.6,
    "ViTHuge": 167.4,
    "DeiTBase": 17.68,
    "SwinTiny": 4.51,
    "SwinSmall": 8.77,
    "SwinBase": 15.47,
    "SwinLarge": 34.53,
    "SwinV2Tiny": 5.96,
    "PVTv2B0": 0.57,
    "PVTv2B2": 4.05,
    "PVTv2B2Linear": 3.91,
    "PVTv2B5": 11.76,
    "R50ViTBase16": 21.66,
    "CaiTSmall24": 9.35,
}


@pytest.mark.parametrize(("variant", "gmacs"), PUBLISHED.items())
def test_macs_are_the_published_ones(variant, gmacs):
    """Of the kept costs, which tests/models/test_variants.py counts."""
    _, _, macs = listing.costs()[variant]
    assert macs / 1e9 == pytest.approx(gmacs, rel=0.01)


def test_macs_at_another_size_are_the_published_ones(no_initialization):
    model = keras_vit.ViTBase(dtype="bfloat16")
    assert keras_vit.complexity(model, 384).macs / 1e9 == pytest.approx(55.54, rel=0.01)


@everywhere
def test_every_product_is_counted_once():
    """Against the products written out for one small model."""
    n, d, m = 1 + 3 * 2, 16, 32
    patches = 6 * (8 * 8 * 3) * d
    block = n * d * 3 * d + 2 * n * n * d + n * d * d + 2 * n * d * m
    found = keras_vit.complexity(tiny_vit())
    assert found.macs == patches + 2 * block + d * 4
    assert found.parameters == tiny_vit().count_params()
    assert found.layers[0][:2] == ("patch_embedding", "(B, 6, 16)")
    assert sum(row[2] for row in found.layers) == found.parameters
    assert sum(row[3] for row in found.layers) == found.macs
    assert [row[1] for row in found.terms] == [4 * n * n * d, 8 * n * d * d, 4 * n * d * m]


def test_swiglu_and_map_are_counted():
    gelu, swiglu = tiny_vit(), tiny_vit(mlp="swiglu")
    difference = keras_vit.complexity(swiglu).macs - keras_vit.complexity(gelu).macs
    assert difference == 2 * 7 * 16 * 32  # the gate, in two blocks
    n, d, m = 6, 16, 32
    pool = d * d + n * d * 2 * d + 2 * n * d + d * d + 2 * d * m
    layers = {row[0]: row[3] for row in keras_vit.complexity(tiny_vit(pooling="map")).layers}
    assert layers["pool"] == pool


def test_windows_are_counted_and_their_cost_is_linear():
    """Against the products written out; beyond the windows nothing grows faster than the pixels."""
    model = tiny_swin()
    n, first = 8 * 8, 0
    for places, d, windows in [(n, 8, 4), (n // 4, 16, 1)]:
        block = windows * (16 * 4 * d * d + 2 * 16 * 16 * d) + 2 * places * d * 2 * d
        first += 2 * block
    expected = n * 48 * 8 + first + n // 4 * 32 * 16 + 16 * 4
    found = keras_vit.complexity(model)
    assert found.macs == expected
    assert found.scores_bytes == 2 * 4 * 16 * 16 * (4 * 2 + 1 * 4)
    assert found.terms is None
    head = 16 * 4
    large = keras_vit.complexity(tiny_swin(image_size=128))
    assert large.macs - head == 16 * (found.macs - head)


def test_reductions_and_depthwise_convolutions_are_counted():
    """Against the products written out for one block, whose last row makes no whole patch."""
    model = keras_vit.PyramidVisionTransformerV2(
        image_size=(20, 16),
        depths=(1,),
        widths=(8,),
        num_heads=(2,),
        mlp_ratios=(3,),
        reductions=(2,),
        patch_sizes=(7,),
        strides=(4,),
        num_classes=4,
    )
    n, m, d, hidden = 5 * 4, 2 * 2, 8, 24
    attention = n * d * d + m * 4 * d * d + m * d * 2 * d + 2 * n * m * d + n * d * d
    mlp = 2 * n * d * hidden + n * 9 * hidden
    found = keras_vit.complexity(model)
    assert found.macs == n * 7 * 7 * 3 * d + attention + mlp + d * 4
    assert sum(row[2] for row in found.layers) == found.parameters
    assert found.scores_bytes == 4 * 2 * n * m
    assert found.terms is None and "GMACs" in str(found)


def test_hybrids_differ_from_the_published_by_the_normalisations(no_initialization):
    """timm publishes 3.56: its counter adds 5 for a number normalised, 4 for one standardised."""
    model = keras_vit.R26ViTSmall32(dtype="bfloat16")
    kernels = [w for w in model.weights if "conv" in w.path]
    standardised = sum(int(np.prod(w.shape)) for w in kernels)
    per_place = {"stem_norm": 112 * 112 * 64}
    for s, (side, filters) in enumerate([(56, 256), (28, 512), (14, 1024), (7, 2048)]):
        first = 2 * side if s else side  # before the stride
        places = first**2 * filters // 4 + side**2 * (filters // 4 + 2 * filters)
        per_place[s] = places + side**2 * (2 * filters // 4 + filters)
    normalised = sum(per_place.values())
    macs = keras_vit.complexity(model).macs
    keras.backend.clear_session()
    assert (macs + 4 * standardised + 5 * normalised) / 1e9 == pytest.approx(3.56, rel=0.002)


@everywhere
def test_stems_are_counted():
    """Against the products written out for one block and one place that shrinks, and for a CNN."""
    model = tiny_hybrid(stem_depths=(1,), depth=1)
    n, d, m = 6 * 4, 16, 32
    block = n * (8 * 8 + 9 * 8 * 8 + 8 * 32 + 8 * 32)
    tokens = n + 1
    attention = tokens * 4 * d * d + 2 * tokens * tokens * d
    transformer = attention + 2 * tokens * d * m
    found = keras_vit.complexity(model)
    expected = 12 * 8 * 7 * 7 * 3 * 8 + block + n * 32 * d + transformer + 4 * d
    assert found.macs == expected
    assert sum(row[2] for row in found.layers) == found.parameters
    inputs = keras.Input((24, 16, 3))
    x = keras.layers.Conv2D(6, 3, strides=4, padding="same", data_format="channels_last")(inputs)
    x = keras.layers.DepthwiseConv2D(3, padding="same", data_format="channels_last")(x)
    with_cnn = tiny_hybrid(stem=keras.Model(inputs, keras.layers.BatchNormalization()(x)), depth=1)
    found = keras_vit.complexity(with_cnn)
    cnn = n * (27 * 6 + 9 * 6)
    assert found.macs == cnn + n * 6 * d + transformer + 4 * d
    assert sum(row[2] for row in found.layers) == found.parameters


def test_heads_that_talk_and_class_attention_are_counted():
    """Against the products written out for one block of each kind."""
    model = tiny_cait()
    n, d, m, heads = 6, 16, 32, 2
    block = n * 4 * d * d + 2 * n * n * d + 2 * (n * heads) ** 2 + 2 * n * d * m
    n_all = 1 + n
    class_block = 2 * d * d + n_all * 2 * d * d + 2 * n_all * d + 2 * d * m
    found = keras_vit.complexity(model)
    assert found.macs == n * 8 * 8 * 3 * d + block + class_block + 4 * d
    assert sum(row[2] for row in found.layers) == found.parameters
    assert found.scores_bytes == 4 * heads * n_all  # those of talking heads are never fused
    assert found.terms is None


@everywhere
def test_any_image_size_and_no_new_weights():
    model = tiny_vit()
    weights = len(model.weights)
    at_call = keras_vit.complexity(model, (48, 32))
    built = keras_vit.complexity(tiny_vit(image_size=(48, 32)))
    assert at_call.macs == built.macs
    assert at_call.image_size == (48, 32)
    assert len(model.weights) == weights
    assert model.output_shape == (None, 4)
    with pytest.raises(ValueError, match="image_size=224. Received: image_size=None"):
        keras_vit.complexity(tiny_vit(image_size=None))
    with pytest.raises(ValueError, match="multiples of patch_size"):
        keras_vit.complexity(model, 49)


def test_activation_memory():
    full = keras_vit.complexity(tiny_vit())
    remat = keras_vit.complexity(tiny_vit(remat=True))
    half = keras_vit.complexity(tiny_vit(dtype="mixed_bfloat16"))
    assert remat.activation_bytes < full.activation_bytes / 2
    assert half.activation_bytes * 2 == pytest.approx(full.activation_bytes, rel=0.01)
    assert full.scores_bytes == 2 * 4 * 2 * 7 * 7  # blocks, bytes, heads, N x N


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch counts what it saves")
def test_activation_memory_is_what_pytorch_saves():
    """Counted against the tensors that autograd really keeps for one image."""
    import torch

    model = keras_vit.VisionTransformer(
        image_size=64, patch_size=8, width=64, depth=3, num_heads=4, mlp_dim=256, num_classes=10
    )
    weights = {weight.value.data_ptr() for weight in model.weights}
    kept = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images = torch.zeros((1, 64, 64, 3), device="cpu")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = model(images, training=True).sum()
    del loss
    # Not equal: PyTorch also keeps statistics, and not the results that no gradient needs.
    counted = keras_vit.complexity(model).activation_bytes
    assert counted == pytest.approx(sum(kept.values()), rel=0.25)


def test_printing():
    text = str(keras_vit.complexity(tiny_vit()))
    for part in ("block01", "GMACs", "2N²D", "4ND²", "8ND²", "textbook"):
        assert part in text


def test_unknown_layers_are_refused_by_name():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.SeparableConv2D(4, 3, name="odd_one")(inputs))
    with pytest.raises(ValueError, match="cost\\(input_shape\\).*odd_one"):
        keras_vit.complexity(model)


@everywhere
def test_shape_flow_of_the_paper():
    flow = keras_vit.shape_flow(keras_vit.ViTBase(depth=1, dtype="bfloat16"))
    assert [(name, shape) for name, _, shape in flow] == [
        ("images", "(B, 224, 224, 3)"),
        ("patch_embedding", "(B, 196, 768)"),
        ("class_token", "(B, 197, 768)"),
        ("position_embedding", "(B, 197, 768)"),
        ("dropout", "(B, 197, 768)"),
        ("block00", "(B, 197, 768)"),
        ("norm", "(B, 197, 768)"),
        ("pool", "(B, 768)"),
        ("head", "(B, 1000)"),
    ]
    assert "patch_embedding     PatchEmbedding" in str(flow)
    at_call = keras_vit.shape_flow(tiny_vit(image_size=None), image_size=(16, 40))
    assert at_call[1][2] == "(B, 10, 16)"
    assert np.shape(flow) == (9, 3)
