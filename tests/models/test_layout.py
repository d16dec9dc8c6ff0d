"""Token layouts come from the layers, whatever the family: no square grid, no class token."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_vit
from keras_vit.models.layout import TokenLayout, token_layouts
from tests.helpers import once, tiny_cait, tiny_hybrid, tiny_pvt, tiny_swin, tiny_vit

pytestmark = once  # shapes of symbolic tensors


def stem():
    x = keras.Input((24, 16, 3))
    return keras.Model(x, layers.Conv2D(4, 3, 4, padding="same", name="c")(x), name="cnn")


MODELS = {
    "vit": tiny_vit,
    "vit of many tokens": lambda: tiny_vit(num_registers=3, distillation_token=True),
    "vit without tokens": lambda: tiny_vit(pooling="gap", patch_size=(8, 4)),
    "swin": tiny_swin,
    "swin of odd maps": lambda: tiny_swin(image_size=(36, 20)),
    "hybrid": tiny_hybrid,
    "hybrid with a CNN": lambda: tiny_hybrid(stem=stem(), stem_depths=()),
    "cait": tiny_cait,
    "pvt": lambda: tiny_pvt(1),
    "pvt v2 of odd maps": lambda: tiny_pvt(2, image_size=(17, 5)),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_layouts_are_those_of_the_tensors(make):
    """Of every layer: as many tokens as it gives, a grid as large as its map, the whole image."""
    model = make()
    size = model.input.shape[1:3]
    kinds = set()
    for layer in model.layers[1:]:
        shape = layer.output.shape
        if len(shape) == 2:
            continue
        layout = model.token_layout(layer.name)
        kinds.add(len(shape))
        if len(shape) == 3:
            assert layout.num_tokens == shape[1], layer.name
            assert layout.grid_of(size) == layout.grid_size
        else:
            assert layout.grid_size == shape[1:3] and layout.num_prefix_tokens == 0, layer.name
        for side, patch, places in zip(size, layout.patch_size, layout.grid_size, strict=True):
            # A map's padding, until the next layer takes it away, is no place of the image.
            assert -(-side // patch) == places - (layer.name == "stem_pad")
    assert kinds <= {3, 4} and model.token_layout("pool") == model.token_layout(_read(model))


def _read(model):
    """The name of the layer that the pooling reads."""
    return model.get_layer("pool").input._keras_history.operation.name


def test_a_layout_says_where_patches_are():
    model = tiny_vit(num_registers=2, patch_size=(8, 4))
    assert model.token_layout("patch_embedding") == TokenLayout(0, (3, 4), (8, 4))
    assert model.token_layout("block01") == TokenLayout(3, (3, 4), (8, 4))
    assert tiny_cait().token_layout("block00") == TokenLayout(0, (3, 2), (8, 8))
    assert tiny_cait().token_layout("class_block00") == TokenLayout(1, (3, 2), (8, 8))
    anysize = tiny_vit(image_size=None).token_layout("norm")
    assert anysize == TokenLayout(1, (None, None), (8, 8))
    assert anysize.num_tokens is None and anysize.grid_of((32, 40)) == (4, 5)
    assert tiny_swin(image_size=None).token_layout("stage1_block00").patch_size == (8, 8)


def test_where_there_is_no_layout():
    with pytest.raises(ValueError, match="'head' gives neither tokens of known patches nor a"):
        tiny_vit().token_layout("head")
    with pytest.raises(ValueError, match="No such layer: block99"):
        tiny_vit().token_layout("block99")
    images = keras.Input((24, 16, 3))
    x = keras_vit.layers.PatchEmbedding(8, 8, name="patches")(images)
    x = layers.Dropout(0.1, name="all")(x)
    x = layers.Dense(8, name="some")(x[:, :2])  # which patches these are no layer says
    found = token_layouts(keras.Model(images, x))
    assert found["all"] == TokenLayout(0, (3, 2), (8, 8)) and found["some"] is None


class TubeletEmbedding(layers.Layer):
    """Tokens of two frames of 8 x 8 pixels, as a video model cuts them."""

    def call(self, videos):
        _, t, h, w, c = videos.shape
        x = ops.reshape(videos, (-1, t // 2, 2, h // 8, 8, w // 8, 8, c))
        return ops.reshape(ops.transpose(x, (0, 1, 3, 5, 2, 4, 6, 7)), (-1, t * h * w // 128, 384))

    def compute_token_layout(self, layout):
        return layout.in_patches(8, frames=2)


def test_video():
    videos = keras.Input((6, 24, 16, 3))
    x = TubeletEmbedding(name="tubelets")(videos)
    x = keras_vit.layers.ClassToken(name="class_token")(x)
    x = keras_vit.layers.TransformerBlock(2, 8, name="block")(x)
    model = keras.Model(videos, x)
    layout = token_layouts(model)["block"]
    assert layout == TokenLayout(1, (3, 2), (8, 8), num_steps=3, frames_per_step=2)
    assert layout.num_tokens == 19 == model(np.zeros((1, 6, 24, 16, 3))).shape[1]
