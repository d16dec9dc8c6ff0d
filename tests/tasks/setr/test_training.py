"""`compile` and `fit` of a SETR: losses by name, auxiliary heads, metrics, learning."""

import keras
import numpy as np
import pytest

from keras_vit.losses import SegmentationCrossEntropy, SegmentationDice
from tests.helpers import images, once, randomize, run, tiny_vit, to_numpy
from tests.tasks.setr.helpers import labels, tiny_setr

JIT = keras.backend.backend() == "jax"


class Agreement(keras.metrics.Metric):
    """Share of pixels whose label is the class of the largest logit."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mean = keras.metrics.Mean()

    def update_state(self, y_true, y_pred, sample_weight=None):
        best = keras.ops.cast(keras.ops.argmax(y_pred, axis=-1), "int32")
        self.mean.update_state(keras.ops.equal(keras.ops.cast(y_true, "int32"), best))

    def result(self):
        return self.mean.result()

    def reset_state(self):
        self.mean.reset_state()


def test_fit_learns_and_every_result_is_that_of_the_main_output():
    model = tiny_setr("naive")
    randomize(model, scale=0.1)
    pixels, truth = images(), np.ones((3, 24, 16), "int32")
    truth[:, :12] = 3
    model.compile(
        keras.optimizers.Adam(0.01), metrics=[Agreement(name="agreement")], jit_compile=JIT
    )
    data = {"x": pixels, "y": truth, "verbose": 0}
    history = model.fit(**data, epochs=15, validation_data=(pixels, truth)).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert history["val_agreement"][-1] > history["val_agreement"][0]

    # validation has no auxiliary heads: its loss is that of what `predict` gives
    logits = model.predict(pixels, verbose=0)
    assert logits.shape == (3, 24, 16, 5)
    loss, agreement = model.evaluate(**data)
    np.testing.assert_allclose(loss, SegmentationCrossEntropy()(truth, logits), rtol=1e-5)
    np.testing.assert_allclose(agreement, (logits.argmax(-1) == truth).mean(), rtol=1e-5)
    np.testing.assert_allclose(history["val_loss"][-1], loss, rtol=1e-5)


@once
@pytest.mark.parametrize(
    ("arguments", "losses"),
    [
        ({}, [SegmentationCrossEntropy()]),
        (
            {"class_weights": "balanced", "average": "all"},
            [SegmentationCrossEntropy(class_weights="balanced", average="all")],
        ),
        (
            {"loss": ["cross_entropy", "dice"], "class_weights": [1, 2, 3, 4, 5]},
            [
                SegmentationCrossEntropy(class_weights=[1, 2, 3, 4, 5]),
                SegmentationDice(class_weights=[1, 2, 3, 4, 5]),
            ],
        ),
        ({"loss": ("dice",), "class_weights": "balanced"}, [SegmentationDice()]),
        ({"loss": SegmentationDice(smooth=0.1)}, [SegmentationDice(smooth=0.1)]),
    ],
)
@pytest.mark.parametrize("weight", [0.4, 0.0])
def test_the_loss_is_the_sum_of_main_and_auxiliary_ones(arguments, losses, weight, tmp_path):
    model = tiny_setr("naive")
    model.compile(keras.optimizers.SGD(0.0), auxiliary_weight=weight, **arguments)
    pixels, truth = images(), labels()
    outputs = keras.tree.map_structure(to_numpy, model(pixels, training=True))
    expected = 0
    for loss in losses:
        expected += float(loss(truth, outputs["main"]))
        expected += weight * sum(float(loss(truth, x)) for x in outputs["auxiliary"])
    np.testing.assert_allclose(model.train_on_batch(pixels, truth), expected, rtol=1e-5)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.train_on_batch(pixels, truth), expected, rtol=1e-5)


@once
def test_the_default_weight_of_auxiliary_heads_is_that_of_the_paper():
    model = tiny_setr("mla")
    model.compile("sgd")
    outputs = {"main": np.zeros((1, 1, 1, 5), "float32")}
    outputs["auxiliary"] = [np.zeros((1, 1, 1, 5), "float32")] * 4
    loss = model.compute_loss(y=np.zeros((1, 1, 1), "int32"), y_pred=outputs)
    np.testing.assert_allclose(float(loss), (1 + 4 * 0.4) * np.log(5), rtol=1e-6)


@once
def test_gradient_checkpointing_takes_equal_steps():
    trained = []
    for remat in (False, True):
        keras.utils.set_random_seed(7)
        model = tiny_setr("pup", tiny_vit(depth=4, remat=remat))
        model.compile(keras.optimizers.SGD(0.5))
        model.fit(images(), labels(), verbose=0, shuffle=False)
        trained.append(run(model, images()))
    np.testing.assert_allclose(*trained, atol=1e-5)
