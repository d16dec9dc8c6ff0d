"""Makes detr_loss.npz: the set loss of DETR, every part of it, and its gradient.

    pip install torch transformers scipy && python tests/golden/make_detr_loss.py

The criterion of facebookresearch/detr needs torchvision and its own package, so it is restated here
in PyTorch, from `models/matcher.py`, `models/detr.py` and `util/box_ops.py`. transformers' loss is
that of the last block alone, because in training it computes the earlier ones from other tensors
(its own loss function gets the same random outputs here).

The file holds `made_with`; `logits` (L, B, Q, K + 1) and `boxes` (L, B, Q, 4) of L blocks of a
decoder; `target_boxes` (B, M, 4), `labels` (B, M) and `count` (B,), of which one is 0; for every
block `class`, `l1` and `giou` (L,); `loss`, their weighted sum over all blocks, `logits_gradient`
and `boxes_gradient`; `none_*` the same for a batch of pictures without objects; and
`transformers_*`, the parts and the loss of transformers for the last block.
"""

from pathlib import Path

import numpy as np
import scipy
import torch
import transformers
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F
from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

FILE = Path(__file__).parent / "detr_loss.npz"
BLOCKS, BATCH, QUERIES, CLASSES, MOST = 3, 4, 11, 5, 6
WEIGHTS = {"class": 1.0, "l1": 5.0, "giou": 2.0}
NO_OBJECT = 0.1


def corners(x):
    center, size = x[..., :2], x[..., 2:]
    return torch.cat([center - size / 2, center + size / 2], dim=-1)


def giou(a, b):
    """(N, 4), (M, 4) -> (N, M)."""
    area_a, area_b = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    inner = torch.min(a[:, None, 2:], b[None, :, 2:]) - torch.max(a[:, None, :2], b[None, :, :2])
    inner = inner.clamp(min=0).prod(-1)
    union = area_a[:, None] + area_b[None] - inner
    outer = torch.max(a[:, None, 2:], b[None, :, 2:]) - torch.min(a[:, None, :2], b[None, :, :2])
    outer = outer.clamp(min=0).prod(-1)
    return inner / union - (outer - union) / outer


@torch.no_grad()
def match(logits, boxes, targets):
    """A list of (queries, objects) for the pictures of a batch."""
    found = []
    for scores, found_boxes, target in zip(logits.softmax(-1), boxes, targets, strict=True):
        cost = (
            WEIGHTS["l1"] * torch.cdist(found_boxes, target["boxes"], p=1)
            - WEIGHTS["class"] * scores[:, target["labels"]]
            - WEIGHTS["giou"] * giou(corners(found_boxes), corners(target["boxes"]))
        )
        found.append(tuple(torch.as_tensor(x) for x in linear_sum_assignment(cost.numpy())))
    return found


def losses(logits, boxes, targets):
    """The parts of one block's loss."""
    pairs = match(logits, boxes, targets)
    wanted = torch.full(logits.shape[:2], CLASSES)
    for i, ((queries, objects), target) in enumerate(zip(pairs, targets, strict=True)):
        wanted[i, queries] = target["labels"][objects]
    weight = torch.ones(CLASSES + 1)
    weight[-1] = NO_OBJECT
    number = max(sum(len(target["labels"]) for target in targets), 1)
    found = torch.cat([boxes[i, queries] for i, (queries, _) in enumerate(pairs)])
    true = torch.cat(
        [target["boxes"][objects] for (_, objects), target in zip(pairs, targets, strict=True)]
    )
    return {
        "class": F.cross_entropy(logits.transpose(1, 2), wanted, weight),
        "l1": F.l1_loss(found, true, reduction="none").sum() / number,
        "giou": (1 - torch.diag(giou(corners(found), corners(true)))).sum() / number,
    }


def case(prefix, logits, boxes, targets):
    """The numbers of a batch, with names that start with `prefix`."""
    logits, boxes = logits.clone().requires_grad_(), boxes.clone().requires_grad_()
    parts = [losses(*block, targets) for block in zip(logits, boxes, strict=True)]
    loss = sum(WEIGHTS[name] * value for block in parts for name, value in block.items())
    loss.backward()
    found = {name: torch.stack([block[name] for block in parts]) for name in WEIGHTS}
    found |= {"loss": loss, "logits_gradient": logits.grad, "boxes_gradient": boxes.grad}
    return {prefix + name: x.detach().numpy() for name, x in found.items()}


def by_transformers(logits, boxes, targets):
    """The loss of the last block and its parts by transformers."""
    config = transformers.DetrConfig(num_labels=CLASSES, auxiliary_loss=False)
    given = [{"class_labels": x["labels"], "boxes": x["boxes"]} for x in targets]
    loss, parts, _ = ForObjectDetectionLoss(logits[-1], given, "cpu", boxes[-1], config)
    names = {"loss_ce": "class", "loss_bbox": "l1", "loss_giou": "giou"}
    return {
        "transformers_loss": loss.numpy(),
        **{f"transformers_{ours}": parts[theirs].numpy() for theirs, ours in names.items()},
    }


def main():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    logits = 2 * torch.randn(BLOCKS, BATCH, QUERIES, CLASSES + 1)
    center = 0.2 + 0.6 * torch.rand(BLOCKS, BATCH, QUERIES, 2)
    boxes = torch.cat([center, 0.05 + 0.35 * torch.rand(BLOCKS, BATCH, QUERIES, 2)], dim=-1)
    count = np.array([4, 0, MOST, 1], "int32")
    center, size = (
        rng.uniform(0.25, 0.75, (BATCH, MOST, 2)),
        rng.uniform(0.05, 0.4, (BATCH, MOST, 2)),
    )
    target_boxes = np.concatenate([center, size], -1).astype("float32")
    labels = rng.integers(0, CLASSES, (BATCH, MOST)).astype("int32")
    padding = np.arange(MOST)[None] >= count[:, None]
    target_boxes[padding], labels[padding] = 0, 0
    targets = [
        {"boxes": torch.tensor(b[:n]), "labels": torch.tensor(x[:n].astype("int64"))}
        for b, x, n in zip(target_boxes, labels, count, strict=True)
    ]
    empty = [{name: x[:0] for name, x in target.items()} for target in targets]
    versions = (torch, transformers, scipy)
    np.savez(
        FILE,
        made_with=", ".join(f"{x.__name__} {x.__version__}" for x in versions),
        logits=logits.numpy(),
        boxes=boxes.numpy(),
        target_boxes=target_boxes,
        labels=labels,
        count=count,
        **case("", logits, boxes, targets),
        **case("none_", logits, boxes, empty),
        **by_transformers(logits, boxes, targets),
    )


if __name__ == "__main__":
    main()
