"""Pixels where normalised images are expected, and the reverse, are said once; nothing changes."""

import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import compile_model, images, once, once_but, tiny_vit

BACKEND = keras.backend.backend()
LABELS = np.arange(6) % 4


def pixels(dtype="float32", batch=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, 24, 16, 3)).astype(dtype)


def model(**arguments):
    made = tiny_vit(depth=1, **arguments)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compile_model(made, keras.optimizers.SGD(0.01), loss)
    return made


def said(function, *arguments, **options):
    """What a call warns of the range of its images, as a list of str."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        function(*arguments, **options)
    found = [x for x in found if "This warning is given once" in str(x.message)]
    library = Path(keras_vit.__file__).parent
    assert all(library not in Path(x.filename).parents for x in found)  # at the caller's line
    return [str(x.message) for x in found]


class Batches(keras.utils.PyDataset):
    """Batches that depend on how often they were asked for."""

    def __init__(self, x, **options):
        super().__init__(**options)
        self.x, self.asked, self.epochs = x, 0, 0

    def __len__(self):
        return 3

    def __getitem__(self, i):
        self.asked += 1
        return self.x[2 * i : 2 * i + 2] + self.asked % 7, LABELS[2 * i : 2 * i + 2]

    def on_epoch_end(self):
        self.epochs += 1


def float_pipeline(x):
    """Shuffled anew in every pass, with random changes: who reads ahead changes it."""
    import tensorflow as tf

    tf.random.set_seed(3)
    data = tf.data.Dataset.from_tensor_slices((x, LABELS)).shuffle(6, seed=1).batch(2)
    return data.map(lambda x, y: (x + tf.random.uniform((), 0, 3), y)).prefetch(2)


def generator(x):
    yield from ((x[i : i + 2], LABELS[i : i + 2]) for i in (0, 2, 4))


def loader(x):
    import torch

    data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(LABELS))
    return torch.utils.data.DataLoader(data, batch_size=2)


CALLS = {
    "call": lambda m, x: m(x),
    "tensor": lambda m, x: m(keras.ops.convert_to_tensor(x)),
    "features": lambda m, x: m.features(x),
    "predict": lambda m, x: m.predict(x, verbose=0),
    "predict_on_batch": lambda m, x: m.predict_on_batch(x),
    "train_on_batch": lambda m, x: m.train_on_batch(x, LABELS),
    "test_on_batch": lambda m, x: m.test_on_batch(x, LABELS),
    "fit": lambda m, x: m.fit(x, LABELS, verbose=0),
    "evaluate": lambda m, x: m.evaluate(x, LABELS, verbose=0),
    "pipeline": lambda m, x: m.fit(float_pipeline(x), verbose=0),
    "dataset": lambda m, x: m.fit(Batches(x), verbose=0),
    "generator": lambda m, x: m.fit(generator(x), verbose=0, steps_per_epoch=3),
    "attention_maps": lambda m, x: keras_vit.attention_maps(m, x),
    "grad_cam": lambda m, x: keras_vit.grad_cam(m, x),
}
if BACKEND == "torch":
    CALLS["loader"] = lambda m, x: m.fit(loader(x), verbose=0)


@pytest.mark.parametrize(
    "names", [("tensor", "fit", "pipeline"), pytest.param(tuple(CALLS), marks=once)], ids=len
)
def test_every_way_in_says_so_once(names):
    m = model()
    for name in names:
        call = CALLS[name]
        m._warned = False
        assert said(call, m, 3 * images(batch=6)) == [], name
        m._range_checked = (
            m._range_checked and name != "tensor"
        )  # calls on tensors are checked once
        found = said(call, m, pixels())
        assert len(found) == 1 and "include_preprocessing=True" in found[0], name
        assert "Received: values from" in found[0], name
    assert said(m, pixels()) == []


def test_no_word_of_images_as_they_should_be():
    m = model()
    for x in (images(batch=6), (images(batch=6) + 1) / 2, np.zeros((6, 24, 16, 3), "float32")):
        assert said(m.predict, x, verbose=0) == said(m, x) == []
    assert len(said(m, pixels())) == 1


def test_bytes_are_known_by_their_type():
    m = model()
    assert "uint8" in said(m.predict, pixels("uint8"), verbose=0)[0]
    m._warned = False
    assert "a pipeline of <dtype: 'uint8'>" in said(m.predict, byte_pipeline(), verbose=0)[0]
    m._warned = False
    assert said(m, np.zeros((6, 24, 16, 3), "uint8")) == []


def byte_pipeline():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(pixels("uint8")).batch(2)


def test_the_other_way_round():
    """A model that normalises by itself and is given 0..1 or -1..1 sees a grey picture."""
    m = model(include_preprocessing=True)
    for x in (pixels(), pixels("uint8"), 0 * pixels(), images(batch=6).round()):
        assert said(m.predict, x, verbose=0) == said(m, x) == []
    assert said(m.predict, float_pipeline(pixels()), verbose=0) == []
    for x in (images(batch=6), pixels() / 255):
        m._warned = False
        assert "pixels 0..255, which it normalises itself" in said(m.predict, x, verbose=0)[0]


SOURCES = {"arrays": None, "pipeline": float_pipeline, "dataset": Batches, "generator": generator}


@pytest.mark.parametrize("source", once_but(SOURCES, "pipeline"))  # which each reads in its own way
def test_nothing_else_changes(source, monkeypatch):
    """Losses, the randomness of the source and how often it was asked: to the bit."""

    def losses():
        keras.utils.set_random_seed(5)
        m = model(dropout_rate=0.2)
        if source is None:
            return m.fit(pixels(), LABELS, batch_size=2, epochs=2, verbose=0).history["loss"]
        data, steps = source(pixels()), {}
        if source is generator:
            data = (batch for _ in range(2) for batch in generator(pixels()))
            steps = {"steps_per_epoch": 3}
        found = m.fit(data, epochs=2, verbose=0, shuffle=False, **steps).history["loss"]
        if source is Batches:
            found += [data.asked, data.epochs]
        return found

    with_a_look = losses()
    monkeypatch.setattr("keras_vit.models.inputs.with_range_check", lambda model, data: data)
    monkeypatch.setattr("keras_vit.models.inputs.check_range", lambda model, images: None)
    assert losses() == with_a_look


def test_what_is_traced_is_not_looked_at():
    """No value is asked for where there is none, and the warning is not lost there."""
    m = model()
    assert m(keras.Input((24, 16, 3))).shape == (None, 4)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.function(m)(tf.constant(pixels()))
    elif BACKEND == "jax":
        import jax

        jax.jit(lambda x: m(x, training=False))(pixels())
    else:
        import torch

        x = torch.from_numpy(pixels())
        torch.func.vmap(lambda x: m(x[None]))(x)
        torch.export.export(_module(m), (x,))
    assert not m._warned
    assert len(said(m, pixels())) == 1


def _module(m):
    import torch

    class Module(torch.nn.Module):
        def forward(self, x):
            return m(x, training=False)

    return Module().eval()


@once
def test_a_student_looks_at_what_its_distiller_gets():
    student, teacher = model(), model()
    distiller = keras_vit.Distiller(student, teacher)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compile_model(distiller, "sgd", loss)
    assert len(said(distiller.fit, pixels(), LABELS, verbose=0)) >= 1
    student._warned = False
    assert len(said(distiller.predict, pixels(), verbose=0)) == 1
    student._warned = False
    assert said(distiller.fit, images(batch=6), LABELS, verbose=0) == []


# TensorFlow's functions are traced twice where they make variables.
@pytest.mark.skipif(BACKEND != "tensorflow", reason="no other backend traces tf.function")
@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("pipeline", [False, True])
def test_a_step_of_training_is_traced_once(pipeline, distilled):
    import tensorflow as tf

    trained, traced = tiny_vit(depth=1), []
    if distilled:
        trained = keras_vit.Distiller(trained, tiny_vit(depth=1))
    step = trained.train_step
    trained.train_step = lambda data: traced.append(1) or step(data)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained.compile("adam", loss, metrics=["accuracy"], weighted_metrics=["accuracy"])
    data = images(batch=6), LABELS
    if pipeline:
        data = (tf.data.Dataset.from_tensor_slices(data).batch(6),)
    history = trained.fit(*data, epochs=2, verbose=0).history
    assert len(traced) == 1
    assert len(history["accuracy"]) == len(history["weighted_accuracy"]) == 2
