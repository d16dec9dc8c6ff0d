"""Which query is to find which object: the matching of least cost, by SciPy.

The costs are computed by the backend, in float32, and the matchings of all decoder blocks, groups
and pictures by one call on the host.

Letters: P problems (pictures times sets of queries), B batch, Q queries, M objects, K classes.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.callers import warn
from keras_vit.ops.boxes import center_to_corners, generalized_iou
from keras_vit.tasks.detr.targets import check_targets

WORST = 1e6  # the cost of a pair whose cost is not finite, as after a division by zero


def matching_costs(outputs, targets, weights):
    """The cost of every pair of a query and an object.

    Args:
        outputs: {"logits": (B, Q, K + 1), "boxes": (B, Q, 4)}.
        targets: {"boxes": (B, M, 4), "labels": int32 (B, M), ...}.
        weights: dict, weights of "class" (minus the probability of the object's class), "boxes"
            (L1) and "giou" (minus the generalised IoU).

    Returns:
        float32 tensor (B, Q, M). Costs of objects that are padding mean nothing.

    Source: facebookresearch/detr `models/matcher.py`.
    """
    probabilities = ops.softmax(ops.cast(outputs["logits"], "float32"), axis=-1)
    queries = ops.shape(probabilities)[1]
    labels = ops.repeat(ops.expand_dims(targets["labels"], 1), queries, axis=1)  # (B, Q, M)
    of_class = ops.take_along_axis(probabilities, labels, axis=2)
    found = ops.expand_dims(ops.cast(outputs["boxes"], "float32"), 2)  # (B, Q, 1, 4)
    wanted = ops.expand_dims(targets["boxes"], 1)  # (B, 1, M, 4)
    distance = ops.sum(ops.abs(found - wanted), axis=-1)
    overlap = generalized_iou(center_to_corners(found), center_to_corners(wanted))
    return weights["boxes"] * distance - weights["class"] * of_class - weights["giou"] * overlap


def match(costs, counts, targets, num_classes):
    """Solves matchings on the host.

    Args:
        costs: float32 tensor (P, Q, M).
        counts: int32 tensor (P,), how many of the M objects there are.
        targets: what the costs are about, which is checked on the way.
        num_classes: int, K.

    Returns:
        int32 tensor (P, M): the query of each object; -1 for padding, and for the objects that are
        left over if there are more than queries. No gradient flows.

    Raises:
        ValueError: on the host, if targets are not what they should be (`check_targets`).
        ImportError: without SciPy.
    """
    given = (costs, counts, targets["boxes"], targets["labels"], targets["count"])

    def solve_checked(costs, counts, *objects):
        check_targets(*(np.asarray(x) for x in objects), num_classes)
        return solve(costs, counts)

    backend = keras.backend.backend()
    if backend == "torch":
        return _match_on_torch(solve_checked, given)
    if backend == "jax":
        import jax

        shape = jax.ShapeDtypeStruct((costs.shape[0], costs.shape[2]), "int32")
        given = jax.lax.stop_gradient(given)  # a callback has no derivative
        return jax.pure_callback(solve_checked, shape, *given, vmap_method="sequential")
    import tensorflow as tf

    given = [tf.stop_gradient(x) for x in given]
    found = tf.numpy_function(solve_checked, given, tf.int32, stateful=False)
    found.set_shape((costs.shape[0], costs.shape[2]))
    return found


def _match_on_torch(function, given):
    import torch

    @torch.compiler.disable  # a compiled step calls it between two graphs
    def on_host(*given):
        found = function(*(x.detach().cpu().numpy() for x in given))
        return torch.from_numpy(found).to(given[0].device)

    return on_host(*given)


def solve(costs, counts):
    """`match` of NumPy arrays."""
    assign = solver()
    costs, counts = np.asarray(costs), np.asarray(counts)
    found = np.full((costs.shape[0], costs.shape[2]), -1, "int32")
    if counts.max(initial=0) > costs.shape[1]:
        _say_too_many(counts, costs.shape[1])
    for i, (cost, count) in enumerate(zip(costs, counts, strict=True)):
        # A loss that is NaN is for `keras.callbacks.TerminateOnNaN`; here it would be an error.
        cost = np.nan_to_num(cost[:, :count], nan=WORST, posinf=WORST, neginf=-WORST)
        queries, objects = assign(cost)
        found[i, objects] = queries
    return found


def solver():
    """SciPy's `linear_sum_assignment`; raises an `ImportError` that says what to install."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError:
        raise ImportError(
            "Matching of queries and objects needs SciPy: "
            "pip install 'keras-vision-transformers[detection]'"
        ) from None
    return linear_sum_assignment


_told = set()  # numbers of queries of which a warning was given


def _say_too_many(counts, queries):
    if queries not in _told:
        _told.add(queries)
        warn(
            f"There are more objects than queries in {int((counts > queries).sum())} of "
            f"{len(counts)} matchings of a batch, up to {int(counts.max())} objects for {queries} "
            "queries. Those that fit worst are not learned: build the model with a larger "
            "num_queries. This warning is given once."
        )
