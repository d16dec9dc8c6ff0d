"""`compile(jit_compile=True)` on PyTorch compiles the layers of a model as one graph."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.fast_paths import without_fast_paths
from keras_vit.models.registry import FAMILIES
from tests.helpers import backends, images, tiny, tiny_vit, to_numpy

# The others compute indices in NumPy, where PyTorch ends a graph.
ONE_GRAPH = ("vit", "deit", "cait", "pvt")

pytestmark = backends("torch")


@pytest.fixture
def graphs(monkeypatch):
    """The number of operations of every graph that is compiled; each is then computed eagerly."""
    import torch

    found = []

    def backend(graph, inputs):
        found.append(len(graph.graph.nodes))
        return graph

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: compile(f, backend=backend))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    return found


def breaks():
    import torch

    return dict(torch._dynamo.utils.counters["graph_break"])


def compiled(jit_compile, **arguments):
    model = tiny_vit(depth=2, num_classes=3, **arguments)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.AdamW(1e-2)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit_compile)
    return model


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_a_training_step_is_one_graph_and_computes_the_same(dtype, graphs, capsys):
    eager, model = compiled(False, dtype=dtype), compiled(True, dtype=dtype)
    model.set_weights(eager.get_weights())
    x, y = images(model.input_shape[1:3]), np.arange(3) % 3
    for _ in range(3):
        found, expected = model.train_on_batch(x, y), eager.train_on_batch(x, y)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(graphs) == 1 and graphs[0] > 20, breaks()
    assert capsys.readouterr().err.count("torch.compile") == 1
    np.testing.assert_allclose(model.predict(x), eager.predict(x), rtol=1e-4, atol=1e-5)
    assert model.evaluate(x, y, verbose=0)[0] == pytest.approx(
        eager.evaluate(x, y, verbose=0)[0], rel=1e-4
    )
    assert not breaks()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_computes_the_same(graphs, family):

    model = tiny(family, num_classes=3)
    x = images(model.input_shape[1:3] if None not in model.input_shape[1:3] else (32, 32))
    expected = model.predict(x, verbose=0)
    model.compile(jit_compile=True)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-5)
    assert sum(graphs) > 20
    if family in ONE_GRAPH:
        assert len(graphs) == 1, breaks()


@pytest.mark.slow
def test_a_last_batch_of_another_size(graphs):
    model = compiled(True)
    x = images(model.input_shape[1:3], batch=5)
    found = model.predict(x, batch_size=2, verbose=0)
    expected = to_numpy(tiny_copy(model)(x))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert len(graphs) <= 3 and not breaks()


def tiny_copy(model):
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


@pytest.mark.slow
def test_auxiliary_heads_of_a_task_are_compiled_too(graphs):
    encoder = tiny_vit(depth=4, image_size=32)
    model = keras_vit.SETR(encoder, "pup", num_classes=3, decoder_width=4)
    model.compile(keras.optimizers.AdamW(1e-3), jit_compile=True)
    x = images((32, 32), batch=2)
    model.train_on_batch(x, np.zeros((2, 32, 32), "int32"))
    assert sum(graphs) > 100


def test_padded_images_and_the_training_of_detr_are_compiled(graphs, capsys):
    backbone = tiny_vit(depth=1, num_classes=None, image_size=None)
    sizes = {"num_classes": 3, "num_queries": 4, "width": 8, "num_heads": 2, "mlp_dim": 8}
    rates = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}
    eager = keras_vit.DETR(backbone, encoder_depth=1, decoder_depth=1, **sizes, **rates)
    model = tiny_copy(eager)
    x = {"images": images((32, 32), batch=2), "valid": np.ones((2, 32, 32), bool)}
    x["valid"][1, 16:] = False
    y = {"boxes": np.full((2, 1, 4), 0.5, "float32"), "labels": np.zeros((2, 1), "int32")}
    for one, jit_compile in ((eager, False), (model, True)):
        one.compile(keras.optimizers.SGD(0.1), jit_compile=jit_compile)
    losses = [one.train_on_batch(x, y) for one in (eager, model) for _ in range(3)]
    np.testing.assert_allclose(losses[3:], losses[:3], rtol=1e-4)
    assert sum(graphs) > 50, breaks()
    trained = sum(graphs)
    found, expected = model.predict_on_batch(x), eager.predict_on_batch(x)
    found = model.predict_on_batch(x)  # compiled, where the first call made what it needs
    np.testing.assert_allclose(found["boxes"], expected["boxes"], rtol=1e-4, atol=1e-5)
    assert sum(graphs) > trained + 20, breaks()
    assert capsys.readouterr().err.count("torch.compile") == 1


@pytest.mark.slow
def test_without_fast_paths_keras_compiles_the_step(graphs):
    model = compiled(True)
    x, y = images(model.input_shape[1:3]), np.arange(3) % 3
    with without_fast_paths():
        model.train_on_batch(x, y)
    assert "_compiled_graphs" not in vars(model) and graphs


def test_exports_and_other_tracers_see_the_layers(graphs):
    import torch

    model = compiled(True)
    x = ops.convert_to_tensor(images(model.input_shape[1:3]))
    expected = to_numpy(model(x))
    with torch.no_grad():
        program = torch.export.export(model.eval(), (x,), strict=False)
    np.testing.assert_allclose(to_numpy(program.module()(x)), expected, rtol=1e-5, atol=1e-5)
