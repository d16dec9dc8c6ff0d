"""Looking into a model changes nothing of it: neither graph nor weights, flags, hooks or modes."""

import gc

import keras
import numpy as np
import pytest
from keras.src.ops.node import Node

import keras_vit
from tests.helpers import (
    compile_model,
    images,
    once_but,
    randomize,
    tiny_cait,
    tiny_hybrid,
    tiny_pvt,
    tiny_swin,
    tiny_vit,
    to_numpy,
)


def with_stem():
    x = keras.Input((24, 16, 3))
    y = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, 4, padding="same")(x))
    return tiny_hybrid(stem=keras.Model(x, y, name="cnn"), stem_depths=())


def state(model):
    """All that a look may not change, of every layer within."""
    found = {}
    for layer in [model, *model._flatten_layers(include_self=False)]:
        found[id(layer)] = {
            "nodes": (len(layer._inbound_nodes), len(layer._outbound_nodes)),
            "trainable": layer.trainable,
            "losses": len(layer._losses),
            "layers": [id(x) for x in layer._layers],
            "attributes": sorted(vars(layer)),
        }
        if keras.backend.backend() == "torch":
            hooks = [len(v) for k, v in vars(layer).items() if k.endswith("hooks")]
            found[id(layer)]["torch"] = (layer.training, hooks, list(layer.torch_params))
    for variable in [*model.variables, *model.optimizer.variables]:
        found[id(variable)] = (variable.path, variable.trainable, to_numpy(variable).tobytes())
        if keras.backend.backend() == "torch":
            value = variable.value
            found[id(value)] = (value.requires_grad, value.grad is None, value.is_leaf)
    return found


def looks(model, pixels, names):
    """Every way to look into a model that its family has, by name."""
    model.feature_model(grid=True)
    model.features(pixels, names)
    model.features(pixels, names, grid=True)
    if model._pyramid is not None:
        model.pyramid_model()
        model.pyramid(pixels)
    keras_vit.grad_cam(model, pixels)
    keras_vit.attention_maps(model, pixels, names, grid=True)
    if not isinstance(model, keras_vit.SwinTransformer) and "stage" not in names[-1]:
        keras_vit.attention_rollout(model, pixels)
        keras_vit.attention_attribution(model, pixels)
    keras_vit.shape_flow(model)
    keras_vit.complexity(model)


FAMILIES = {
    "vit": tiny_vit,
    "cait": tiny_cait,
    "hybrid": tiny_hybrid,
    "hybrid with a CNN": with_stem,
    "swin": lambda: tiny_swin(depths=(1, 1)),
    "pvt": lambda: tiny_pvt(1),
    "pvt v2": lambda: tiny_pvt(2),
}


@pytest.mark.parametrize("make", once_but(FAMILIES, "vit"))  # flags, hooks and nodes of a backend
def test_the_model_is_as_it_was(make):
    model = make()
    randomize(model, scale=0.05)
    compile_model(model)
    pixels = images(model.input.shape[1:3])
    model.fit(pixels, np.ones((3, 4)), verbose=0)
    names = [x.name for x in model.layers if isinstance(x, keras_vit.layers.Block)]
    before = state(model)
    looks(model, pixels, names[-1:])
    assert state(model) == before
    # A copy for another size and a teacher's answers leave it alone too.
    if make is not with_stem:  # which has a size of its own
        keras_vit.resize(model, (64, 64))
    keras_vit.teacher_logits(model, pixels, preprocess=lambda x: x)
    assert state(model) == before


def test_memory_does_not_grow():
    """Nodes, with the tensors that hang on them, are what was left in every layer."""
    model = tiny_vit()
    pixels = images()

    def nodes():
        gc.collect()
        return sum(isinstance(x, Node) for x in gc.get_objects())

    def look():
        keras_vit.grad_cam(model, pixels)
        model.features(pixels, ["block00"], grid=True)
        keras_vit.complexity(model)

    look()
    before = nodes()
    for _ in range(3):
        look()
    assert nodes() == before
