"""The set loss: weighted cross-entropy of all queries, L1 and generalised IoU of matched boxes.

Letters: B batch, Q queries, M objects of a picture at most, K classes.
"""

from keras import ops

from keras_vit.ops.boxes import center_to_corners, generalized_iou

PARTS = ("class", "boxes", "giou")


def set_losses(outputs, targets, queries, totals, no_object_weight=0.1):
    """The parts of the loss of one set of queries, each not yet weighted.

    Args:
        outputs: {"logits": (B, Q, K + 1), "boxes": (B, Q, 4)}.
        targets: {"boxes": (B, M, 4), "labels": int32 (B, M), ...}.
        queries: int32 (B, M), the query of every object, -1 for none (`matcher.match`).
        totals: function of a sum over the batch that makes it that of the batches of all devices,
            divided by their number.
        no_object_weight: float, weight of a query without an object in the cross-entropy.

    Returns:
        dict of float32 scalars: "class", the weighted mean over all queries; "boxes", the sum of
        |centre x, centre y, width, height| over matched boxes, and "giou", the sum of 1 - GIoU,
        both divided by the number of objects.

    Source: facebookresearch/detr `models/detr.py`, `SetCriterion`.
    """
    logits = ops.cast(outputs["logits"], "float32")
    matched = queries >= 0  # (B, M)
    # Which object a query has: (B, M, Q), at most one M for a Q.
    slots = ops.arange(ops.shape(logits)[1], dtype="int32")
    has = ops.cast(queries[:, :, None] == slots, "int32")
    no_object = logits.shape[-1] - 1
    label = ops.sum(has * (targets["labels"] - no_object)[:, :, None], axis=1) + no_object  # (B, Q)
    weight = ops.where(label == no_object, no_object_weight, 1.0)
    nll = -_chosen(ops.log_softmax(logits, axis=-1), label)  # (B, Q)
    classes = ops.sum(weight * nll) / totals(ops.sum(weight))

    found = ops.take_along_axis(
        ops.cast(outputs["boxes"], "float32"), ops.maximum(queries, 0)[:, :, None], axis=1
    )  # (B, M, 4)
    number = ops.maximum(totals(number_of_objects(targets)), 1.0)
    return {"class": classes, **box_losses(found, targets["boxes"], matched, number)}


def box_losses(found, wanted, matched, number):
    """L1 and 1 - GIoU of boxes (B, M, 4), summed where `matched` (B, M), divided by `number`."""
    counts = ops.cast(matched, "float32")
    distance = ops.sum(ops.abs(found - wanted), axis=-1)
    overlap = generalized_iou(center_to_corners(found), center_to_corners(wanted))
    return {
        "boxes": ops.sum(counts * distance) / number,
        "giou": ops.sum(counts * (1.0 - overlap)) / number,
    }


def denoising_losses(outputs, targets, totals, copies):
    """The parts of the loss of noisy copies of the objects, whose queries are known.

    Args:
        outputs: {"logits": (B, copies * M, K + 1), "boxes": (B, copies * M, 4)}.
        targets, totals: as in `set_losses`.
        copies: int.

    Returns:
        dict as that of `set_losses`.
    """
    present = objects_mask(targets)  # (B, M)
    labels, boxes, present = (
        ops.tile(x, [1, copies, *[1] * (len(x.shape) - 2)])
        for x in (targets["labels"], targets["boxes"], present)
    )
    counts = ops.cast(present, "float32")
    number = copies * ops.maximum(totals(number_of_objects(targets)), 1.0)
    nll = -_chosen(ops.log_softmax(ops.cast(outputs["logits"], "float32"), axis=-1), labels)
    found = ops.cast(outputs["boxes"], "float32")
    return {
        "class": ops.sum(counts * nll) / number,
        **box_losses(found, boxes, present, number),
    }


def objects_mask(targets):
    """bool (B, M), which rows of the targets are objects."""
    rows = ops.arange(ops.shape(targets["labels"])[1], dtype="int32")
    return rows[None] < targets["count"][:, None]


def number_of_objects(targets):
    """float32 scalar, how many objects the batch has."""
    return ops.cast(ops.sum(targets["count"]), "float32")


def weighted(parts, weights):
    """The sum of the parts of a loss by their weights."""
    return sum(weights[name] * value for name, value in parts.items())


def _chosen(scores, labels):
    """scores (B, Q, K) of the labels (B, Q): (B, Q)."""
    return ops.take_along_axis(scores, labels[..., None], axis=-1)[..., 0]
