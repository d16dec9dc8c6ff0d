"""Models of every family that are changed after they were built, saved and loaded."""

import keras
import numpy as np

from keras_vit.models.frozen import named_layers
from tests.helpers import tiny, tiny_cait, tiny_hybrid, tiny_pvt, tiny_swin, tiny_vit, to_numpy


def with_stem():
    x = keras.Input((24, 16, 3))
    y = keras.layers.Conv2D(4, 3, 4, padding="same", name="c1")(x)
    y = keras.layers.Dense(6, name="mix")(keras.layers.BatchNormalization(name="bn")(y))
    return tiny_hybrid(stem=keras.Model(x, y, name="cnn"), stem_depths=())


def remat_vit():
    return tiny_vit(remat=True, qk_norm=True, layer_scale=0.1)


def deit():
    return tiny_vit(distillation_token=True)


def swin_v2():
    return tiny_swin(version=2, depths=(1, 1))


def pvt():
    return tiny_pvt(1)


def pvt_v2():
    return tiny_pvt(2)


def swin():
    return tiny_swin(depths=(1, 1))


def resnet():
    return tiny("resnet", remat=True, drop_path_rate=0.1)


MAKERS = [remat_vit, deit, swin, swin_v2, pvt, pvt_v2, tiny_hybrid, with_stem, tiny_cait, resnet]
FAMILIES = {make.__name__: make for make in MAKERS}
# Which weights are saved does not depend on the backend, except for the state that a backend passes
# through a recomputed block.
EVERYWHERE = "remat_vit"


def reload(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


def assert_same(ours, theirs):
    """Asserts that weights are equal bit for bit, and that the same ones are trainable."""
    trained = [x.path for x in ours.trainable_weights]
    assert [x.path for x in theirs.trainable_weights] == trained
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        assert (a.path, a.dtype, a.trainable) == (b.path, b.dtype, b.trainable)
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b), err_msg=a.path)


def dense_layers(model):
    return {k: x for k, x in named_layers(model).items() if type(x) is keras.layers.Dense}
