"""Checks a recipe for settings without effect, and for runs that cannot learn anything."""

import numpy as np

from .derived import present
from .kinds import DETECTION, KINDS, MASKED, default_of
from .model_schema import AUTO

HALF, SOME = 0.5, 0.05  # share of the first weights in the EMA: the limit, and what is noted


def check(plan, splits, steps, devices, resume):
    """Finds settings without effect.

    Args:
        plan: `Recipe`.
        splits: `Splits`.
        steps: int, steps an epoch.
        devices: `Devices`.
        resume: whether the run is resumed: its recipe is fixed, so nothing is refused.

    Returns:
        list of str, the notes.

    Raises:
        ValueError: if the run would learn nothing, or keep nothing of what it learns.
    """
    total = steps * plan.train.epochs
    refused = [
        *(_one_class(splits) if plan.task.kind != MASKED else ()),
        *_one_class_in_masks(plan, splits),
        *_no_objects(plan, splits),
        *_no_update(plan, total),
        *_warmup_alone(plan, total),
        *_old_average(plan, total),
    ]
    if refused and not resume:
        raise ValueError(". ".join(refused))  # all at once, not one after another
    return [
        *refused,
        *_idle(plan, splits, steps, devices),
        *_partial(plan, splits, total),
        *_few_queries(plan, splits),
    ]


def check_trainable(model):
    """Raises for a model that is frozen as a whole."""
    if not model.trainable_variables:
        raise ValueError(
            "There must be a weight to train: leave a layer out of model.frozen_layers. Received: "
            f"{type(model).__name__} with {len(model.layers)} layers, all of them frozen"
        )


def other_keys(plan, other):
    """The keys, "table.key", in which two recipes differ."""
    one, two = plan.as_dict(), other.as_dict()
    return [
        f"{table}.{key}"
        for table in one
        for key in sorted(one[table].keys() | two[table].keys())
        if _differ(one[table].get(key), two[table].get(key))
        and not (table == "model" and one[table]["variant"] == AUTO and key not in one[table])
    ]


def _differ(one, other):
    return AUTO not in (one, other) and _listed(one) != _listed(other)


def _listed(value):
    """A value as TOML represents it."""
    return list(value) if isinstance(value, tuple) else value


def _one_class(splits):
    labels = splits.train.labels
    found = present(labels)
    if isinstance(labels, np.ndarray) and len(found) == 1:
        yield (
            "There must be training images of two classes or more: one leaves nothing to learn. "
            f"Received: {len(labels):,} images of class {found[0]}"
        )


def _no_objects(plan, splits):
    if plan.task.kind == DETECTION and not len(present(splits.train.labels)):
        yield (
            "There must be objects in the training pictures. Received: "
            f"{len(splits.train.labels):,} pictures without one"
        )


def _one_class_in_masks(plan, splits):
    if plan.task.kind == DETECTION:
        return
    for name, masks, least in (("train", splits.train.labels, 2), ("test", splits.test.labels, 1)):
        found = present(masks)
        if len(found) >= least or isinstance(masks, np.ndarray):
            continue
        yield (
            "There must be two classes or more in the masks for training, and one in those for the "
            "test. 255 is ignored; for masks of 0 and 255 set "
            "data.palette = { background = [0, 0, 0], object = [255, 255, 255] }. Received: "
            f"{len(masks):,} masks for {name} with "
            f"{f'class {found[0]} alone' if len(found) else 'no class'}"
        )


def _no_update(plan, total):
    accumulate = plan.optimizer.accumulate
    if accumulate > total:
        yield (
            "optimizer.accumulate must not exceed the steps of the run, or no weight is ever "
            "updated; lower it, raise train.epochs or set it to auto. "
            f"Received: optimizer.accumulate={accumulate}, {total:,} steps"
        )


def _warmup_alone(plan, total):
    warmup, cooldown = plan.optimizer.warmup_steps, plan.optimizer.cooldown_steps
    if warmup + cooldown >= total:
        yield (
            "optimizer.warmup_steps and optimizer.cooldown_steps must leave steps of the run; "
            "lower them, raise train.epochs or set optimizer.warmup_steps=auto. Received: "
            f"warmup_steps={warmup}, cooldown_steps={cooldown}, {total:,} steps"
        )


def _first_weights(plan, total):
    """The share of the weights after the first update in the final EMA."""
    updates = total // plan.optimizer.accumulate
    return plan.optimizer.ema ** (updates - 1) if updates > 1 else 0.0


def _old_average(plan, total):
    ema, updates = plan.optimizer.ema, total // plan.optimizer.accumulate
    share = _first_weights(plan, total)
    if share > HALF:
        most = int(1e4 * HALF ** (1 / (updates - 1))) / 1e4
        yield (
            f"optimizer.ema must be at most {most:g} for {updates:,} updates: the average of the "
            f"weights that is saved would be {100 * share:.0f} % those that the run begins with. "
            f"Lower it, raise train.epochs or set it to auto. Received: optimizer.ema={ema}"
        )


def _partial(plan, splits, total):
    """Settings with less effect than they seem to have."""
    accumulate, share = plan.optimizer.accumulate, _first_weights(plan, total)
    rest = total % accumulate
    if 100 * rest > total:
        yield (
            f"the last {rest} of {total:,} steps make no update: optimizer.accumulate={accumulate} "
            "does not divide them"
        )
    if SOME < share <= HALF:
        yield (
            f"the average of the weights that is saved will be {100 * share:.0f} % those that the "
            f"run begins with (optimizer.ema={plan.optimizer.ema})"
        )
    if 2 * plan.optimizer.warmup_steps > total:
        yield f"the warm-up takes {plan.optimizer.warmup_steps:,} of {total:,} steps"
    classes = plan.model.all_arguments().get("num_classes", 0)
    if (missing := classes - len(present(splits.train.labels))) > 0:
        yield f"{missing:,} of the {classes:,} classes of model.num_classes have no training images"


def _few_queries(plan, splits):
    if plan.task.kind != DETECTION:
        return
    queries, boxes = plan.model.all_arguments()["num_queries"], splits.train.labels
    beyond = np.flatnonzero(boxes.counts > queries)
    if len(beyond):
        worst = int(boxes.counts.argmax())
        images = splits.train.images
        name = images.name(worst) if splits.encoded else f"picture {worst}"
        lost = int((boxes.counts[beyond] - queries).sum())
        yield (
            f"{len(beyond):,} training pictures have more objects than model.num_queries="
            f"{queries}, such as {name} with {boxes.counts[worst]:,}: {lost:,} objects of them are "
            "not learned"
        )


def _idle(plan, splits, steps, devices):
    """Settings that have no effect given the others."""
    data, augment, optimizer, distill = plan.data, plan.augment, plan.optimizer, plan.distill
    teacher, tuned = bool(distill.teacher), plan.finetune.train
    kind = data.source.partition(":")[0]
    moves = augment.rotate or augment.translate or augment.zoom or augment.flip
    mixes = augment.mixup or augment.cutmix
    changes = augment.crop_scale or augment.pad_crop or augment.randaugment or augment.erasing
    changes = (
        changes
        or plan.task.kind != KINDS[0]
        or any(augment.color_jitter)
        or moves
        and augment.probability
        or mixes
    )
    total = steps * plan.train.epochs
    first = optimizer.accumulate - 1  # the steps, from 0, of the first and the last update
    last = total // optimizer.accumulate * optimizer.accumulate - 1
    of_source = f"with data.source={data.source}"
    without = "without distill.teacher"
    still = "at augment.probability=0"
    alone = "where a device has one image a step"
    mixed = plan.train.batch_size > devices.count
    for key, used, why in (
        ("model.frozen_layers", tuned == "all", f"beside finetune.train={tuned!r}"),
        ("finetune.head", devices.count == 1, "on several devices"),
        ("finetune.lora_rank", tuned == "lora", "without finetune.train='lora'"),
        ("distill.kind", teacher, without),
        ("distill.temperature", teacher, without),
        ("distill.temperature", not teacher or distill.kind == "soft", "with distill.kind='hard'"),
        ("distill.alpha", teacher, without),
        ("distill.teacher", distill.alpha > 0, "at distill.alpha=0"),
        ("data.train_split", splits.encoded, of_source),
        ("data.test_split", splits.encoded, of_source),
        ("data.validation", not data.validation_split, "beside data.validation_split"),
        ("data.validation_split", splits.encoded, of_source),
        ("data.test", _held_out(splits), "where the source has test images"),
        ("data.data_dir", kind == "tfds", of_source),
        ("data.first_label", kind == "tfrecord", of_source),
        ("data.interpolation", _resized(plan, splits), "where no image is resized"),
        ("data.crop_fraction", splits.encoded, of_source),
        ("data.max_corrupt", splits.encoded, of_source),
        ("data.upright", splits.encoded, of_source),
        ("augment.crop_short_sides", augment.crop_sides, "without augment.crop_sides"),
        ("augment.crop_ratio", augment.crop_scale, "without augment.crop_scale"),
        ("augment.probability", moves, "without rotate, translate, zoom or flip"),
        *((f"augment.{key}", augment.probability, still) for key in _MOVES),
        ("augment.color_jitter", any(augment.color_jitter), "at strengths of 0"),
        ("augment.mixup", mixed, alone),
        ("augment.cutmix", mixed, alone),
        ("augment.repeats", changes, "on pixels: nothing else in [augment] is random"),
        ("optimizer.min_learning_rate", optimizer.schedule == "poly", "without schedule='poly'"),
        ("optimizer.decay_all", optimizer.weight_decay, "without weight_decay"),
        ("optimizer.drop_at", optimizer.schedule == "step", "without schedule='step'"),
        ("optimizer.nesterov", optimizer.name == "sgd", "without name='sgd'"),
        ("optimizer.layer_decay", tuned != "head", "with finetune.train='head'"),
        ("optimizer.warmup_steps", first < optimizer.warmup_steps, "before the first update"),
        ("optimizer.cooldown_steps", total - last < optimizer.cooldown_steps, "on any update"),
        ("train.label_smoothing", not teacher or distill.alpha < 1, "at distill.alpha=1"),
        ("train.checkpoint_steps", plan.train.checkpoint_steps < steps, f"in {steps} steps"),
    ):
        value, default = _value(plan, key)
        if not used and value != default:
            yield f"{key}={_listed(value)!r} has no effect {why}"


_MOVES = ("rotate", "translate", "zoom", "flip")


def _value(plan, key):
    """(value of a key in a recipe, its default)."""
    name, key = key.split(".")
    if name == "model":
        return plan.model.arguments.get(key, []), []
    table = getattr(plan, name)
    return getattr(table, key), default_of(table, key)


def _held_out(splits):
    """Whether the test images were held out from the training images of the source."""
    if not splits.encoded:
        return False
    return np.array_equal(splits.test.images.files, splits.train.images.files)


def _resized(plan, splits):
    """Whether images are resized: encoded ones are, and arrays of another size."""
    if splits.encoded or plan.augment.crop_scale:
        return True
    size = plan.model.all_arguments()["image_size"]
    if size == AUTO:  # that of the encoder
        return False
    size = [size, size] if isinstance(size, int) else size
    return list(splits.train.images.shape[1:3]) != list(size)
