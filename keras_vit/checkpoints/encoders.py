"""When a caller wants the encoder alone of a task's model, and as which classifier."""

from keras_vit.models.registry import TASKS

ENCODER = "encoder"  # the part of a task's model


def asks_for_encoder(family, part, overrides):
    """Whether a caller of `from_pretrained` wants the encoder alone of a task's model.

    Args:
        family: `Family` of the source's model.
        part, overrides: the caller's arguments.
    """
    if family.model not in {task.model for task in TASKS.values()}:
        return False
    return part == ENCODER or bool(getattr(family.read, "OF_CLASSIFIERS", set()) & set(overrides))


def as_classifier(family, overrides):
    """The caller's arguments of a task's encoder; for classes, with the task's own pooling.

    For MAE the mean of the patches is pooled, and normalised instead of the tokens (He et al. 2022,
    appendix A.1; facebookresearch/mae `models_vit.py`).
    """
    own = getattr(family.read, "CLASSIFIER", {})
    if overrides.get("num_classes") is None or "pooling" in overrides:
        return overrides
    return {**own, **overrides}
