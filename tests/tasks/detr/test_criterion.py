"""The set loss is that of the authors, part by part, with its gradient; and what it refuses."""

import keras
import numpy as np
import pytest

from keras_vit.ops.boxes import corners_to_center
from keras_vit.tasks.detr.targets import as_targets, check_targets
from tests.helpers import once, to_numpy
from tests.tasks.detr.helpers import GOLDEN, batch, gradients, tiny_detr


@pytest.fixture(scope="module")
def expected():
    return dict(np.load(GOLDEN))


@pytest.fixture(scope="module")
def model():
    model = tiny_detr(num_queries=11)
    model.compile("sgd", run_eagerly=True)
    return model


def targets_of(expected, empty=False):
    count = expected["count"] * 0 if empty else expected["count"]
    return {"boxes": expected["target_boxes"], "labels": expected["labels"], "count": count}


def loss_of(model, logits, boxes, targets, blocks):
    """The loss of outputs (L, B, ...), of which the last `blocks` count."""
    outputs = [{"logits": x, "boxes": y} for x, y in zip(logits, boxes, strict=True)][-blocks:]
    y_pred = {**outputs[-1], "auxiliary": outputs[:-1]}
    return model.compute_loss(x=None, y=targets, y_pred=y_pred)


def parts_of(model):
    return [float(to_numpy(metric.result())) for metric in model._parts]


@pytest.mark.parametrize("empty", [False, True])
def test_the_loss_and_its_gradient_are_those_of_the_authors(model, expected, empty):
    prefix, targets = "none_" if empty else "", targets_of(expected, empty)
    logits, boxes = expected["logits"], expected["boxes"]
    loss, found = gradients(lambda x, y: loss_of(model, x, y, targets, 3), logits, boxes)
    np.testing.assert_allclose(loss, expected[f"{prefix}loss"], rtol=1e-5)
    for name, gradient in zip(("logits", "boxes"), found, strict=True):
        np.testing.assert_allclose(gradient, expected[f"{prefix}{name}_gradient"], atol=1e-5)


def test_every_part_of_every_block_is_that_of_the_authors(model, expected):
    targets = targets_of(expected)
    for i in range(3):
        model.reset_metrics()
        loss_of(model, expected["logits"][i : i + 1], expected["boxes"][i : i + 1], targets, 1)
        parts = [expected[name][i] for name in ("class", "l1", "giou")]
        np.testing.assert_allclose(parts_of(model), parts, rtol=1e-5)


@once
def test_the_loss_of_one_block_is_that_of_transformers(model, expected):
    model.reset_metrics()
    loss = loss_of(model, expected["logits"], expected["boxes"], targets_of(expected), 1)
    np.testing.assert_allclose(to_numpy(loss), expected["transformers_loss"], rtol=1e-5)
    parts = [expected[f"transformers_{name}"] for name in ("class", "l1", "giou")]
    np.testing.assert_allclose(parts_of(model), parts, rtol=1e-5)


@once
def test_padding_of_the_targets_changes_nothing(model, expected):
    targets = targets_of(expected)
    padded = {
        "boxes": np.pad(targets["boxes"], ((0, 0), (0, 5), (0, 0))),
        "labels": np.pad(targets["labels"], ((0, 0), (0, 5))),
        "count": targets["count"],
    }
    given = expected["logits"], expected["boxes"]
    losses = [float(to_numpy(loss_of(model, *given, y, 3))) for y in (targets, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_weights_are_those_of_compile(expected):
    model = tiny_detr(num_queries=11)
    model.compile("sgd", weights={"class": 2, "giou": 0}, no_object_weight=1.0, run_eagerly=True)
    targets, given = targets_of(expected), (expected["logits"], expected["boxes"])
    loss = float(to_numpy(loss_of(model, *given, targets, 1)))
    classes, boxes, _ = parts_of(model)
    assert loss == pytest.approx(2 * classes + 5 * boxes, rel=1e-6)
    assert classes != pytest.approx(float(expected["class"][-1]), rel=1e-3)
    config = model.get_compile_config()
    assert config["weights"] == {"class": 2.0, "boxes": 5.0, "giou": 0.0}
    assert config["matching"] == {"class": 1.0, "boxes": 5.0, "giou": 2.0}


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": {"l1": 1}}, "keys 'class', 'boxes', 'giou'. Received: weights="),
        ({"matching": {"class": -1}}, "matching must not be negative. Received: -1"),
        ({"no_object_weight": "few"}, "no_object_weight must not be negative"),
        ({"loss": "mse"}, "model's own"),
    ],
)
def test_bad_arguments_of_compile_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_detr().compile("sgd", **arguments)


GOOD = {
    "boxes": np.array([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.2, 0.2, 0.2], [0, 0, 0, 0]]], "float32"),
    "labels": np.array([[0, 4, 0]], "int32"),
    "count": np.array([2], "int32"),
}


def spoiled(key, value, row=1):
    found = {name: x.copy() for name, x in GOOD.items()}
    found[key][(0, row) if key != "count" else 0] = value
    return found


BAD = [
    (spoiled("boxes", [50, 60, 20, 40]), "look like pixels in 1 of 2 objects.*Divide by width"),
    (spoiled("boxes", [0.5, np.nan, 0.1, 0.1]), "NaN.*object 1 of picture 0"),
    (spoiled("boxes", [0.5, 0.5, -0.1, 0.1]), "negative in 1 of 2"),
    (spoiled("boxes", [0.9, 0.5, 0.4, 0.1]), "reach beyond the picture.*Clip the boxes"),
    (spoiled("labels", 5), "labels must be 0 to 4.*label 5, object 1 of picture 0"),
    (spoiled("labels", -1), "labels must be 0 to 4"),
    (spoiled("count", 4), "count must be 0 to 3"),
    (spoiled("count", -1), "count must be 0 to 3"),
]


@once
@pytest.mark.parametrize(("targets", "message"), BAD)
def test_bad_targets_are_explained(targets, message):
    check_targets(*GOOD.values(), num_classes=5)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        check_targets(*targets.values(), num_classes=5)


@once
def test_what_is_padding_is_not_looked_at_and_corners_are_recognised():
    check_targets(*spoiled("boxes", [9, np.nan, -1, 2], row=2).values(), num_classes=5)
    check_targets(*spoiled("labels", 99, row=2).values(), num_classes=5)
    corners = np.array([[[0.6, 0.6, 0.9, 1.0], [0.1, 0.2, 0.8, 0.9]]], "float32")
    with pytest.raises(ValueError, match="corners_to_center"):
        check_targets(corners, np.zeros((1, 2), "int32"), np.array([2]), 5)
    fine = to_numpy(corners_to_center(keras.ops.convert_to_tensor(corners)))
    check_targets(fine, np.zeros((1, 2), "int32"), np.array([2]), 5)


@once
def test_targets_of_another_structure_are_explained():
    for y in [np.zeros(3), {"boxes": np.zeros((1, 2, 4))}, {**GOOD, "masks": 1}]:
        with pytest.raises(ValueError, match="Targets must be"):
            as_targets(y)
    with pytest.raises(ValueError, match=r"boxes \(B, M, 4\).*Received: boxes \(1, 3\)"):
        as_targets({"boxes": np.zeros((1, 3)), "labels": np.zeros((1, 3))})
    for other in (
        {"labels": np.zeros((2, 1), "int32")},
        {"labels": np.zeros((9, 3), "int32")},
        {"count": np.zeros((2, 1), "int32")},
        {"count": np.zeros(9, "int32")},
    ):
        with pytest.raises(ValueError, match="must have the same B and the same M"):
            as_targets({**GOOD, **other})
    without = as_targets({key: GOOD[key] for key in ("boxes", "labels")})
    assert to_numpy(without["count"]).tolist() == [3]


def test_fit_says_what_is_wrong_with_the_targets():
    """Inside a step, on every backend, of which some wrap the error of the host."""
    model = tiny_detr(encoder_depth=0, decoder_depth=1)
    model.compile("sgd", run_eagerly=keras.backend.backend() != "jax")
    x, y = batch()
    y["boxes"][0, 0] = [30, 20, 10, 10]
    with pytest.raises(Exception, match="look like pixels"):  # arrays are checked before
        model.fit((pair for pair in [(x, y)]), verbose=0)
