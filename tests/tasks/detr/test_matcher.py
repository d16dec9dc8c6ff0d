"""Matching: the cost of SciPy, of padded problems, inside compiled steps, on every backend."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.optimize import linear_sum_assignment

from keras_vit.tasks.detr import matcher
from tests.helpers import once, to_numpy

NO_TARGETS = {  # of the right format, and not what the costs are about
    "boxes": np.full((1, 1, 4), 0.5, "float32"),
    "labels": np.zeros((1, 1), "int32"),
    "count": np.ones(1, "int32"),
}


def compiled(function):
    """The function in a graph, with XLA where that can call the host."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


@pytest.mark.parametrize("wrap", [compiled, lambda function: function])
def test_200_padded_problems_have_the_cost_of_scipy(wrap):
    rng = np.random.default_rng(0)
    number, most_queries, most = 200, 13, 9
    costs = rng.normal(0, 3, (number, most_queries, most)).astype("float32")
    costs[::7] = np.round(costs[::7])  # ties
    counts = rng.integers(0, most + 1, number).astype("int32")
    for i, count in enumerate(counts):
        costs[i, :, count:] = rng.choice([0, -1e9, 1e9, np.nan])  # padding may be anything
    targets = {name: ops.convert_to_tensor(x) for name, x in NO_TARGETS.items()}
    match = wrap(lambda costs, counts: matcher.match(costs, counts, targets, 1))
    found = to_numpy(match(ops.convert_to_tensor(costs), ops.convert_to_tensor(counts)))
    assert found.shape == (number, most)
    for cost, count, queries in zip(costs, counts, found.astype(int), strict=True):
        assert (queries[count:] == -1).all()
        chosen = queries[:count]
        assert len(set(chosen)) == count and (chosen >= 0).all()
        rows, columns = linear_sum_assignment(cost[:, :count])
        best = cost[:, :count][rows, columns].sum()
        assert cost[chosen, np.arange(count)].sum() == pytest.approx(best, abs=1e-4)


@once
def test_more_objects_than_queries_leaves_the_worst_out_and_says_so_once():
    costs = np.array([[[5, 1, 3], [4, 6, 2.0]]], "float32")
    matcher._told.clear()
    with pytest.warns(UserWarning, match="1 of 1 matchings.*3 objects for 2 queries.*num_queries"):
        found = matcher.solve(costs, np.array([3]))
    assert found.tolist() == [[-1, 0, 1]]
    matcher.solve(costs, np.array([3]))  # no second warning, which would be an error here


@once
def test_costs_that_are_not_finite_are_the_worst():
    costs = np.array([[[np.nan, 1], [2, np.inf]]], "float32")
    assert matcher.solve(costs, np.array([2])).tolist() == [[1, 0]]
    assert matcher.solve(np.full((1, 3, 2), np.nan), np.array([2])).shape == (1, 2)


@once
def test_costs_by_hand():
    """One query on the object and one far away, with the class and without."""
    logits = np.log(np.array([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]], "float32"))
    boxes = np.array([[[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2]]], "float32")
    targets = {
        "boxes": ops.convert_to_tensor(boxes[:, :1]),
        "labels": ops.convert_to_tensor(np.array([[0]], "int32")),
    }
    outputs = {"logits": ops.convert_to_tensor(logits), "boxes": ops.convert_to_tensor(boxes)}
    weights = {"class": 1.0, "boxes": 5.0, "giou": 2.0}
    (found,) = to_numpy(matcher.matching_costs(outputs, targets, weights))
    apart = -(0.36 - 0.08) / 0.36  # the hull is 0.6 x 0.6
    np.testing.assert_allclose(found[:, 0], [-0.7 - 2, 5 * 0.8 - 0.1 - 2 * apart], rtol=1e-5)


@once
def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"keras-vision-transformers\[detection\]"):
        matcher.solver()
