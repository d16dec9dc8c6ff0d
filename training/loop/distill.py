"""The [distill] table: training a model as the student of a teacher."""

from keras_vit.distillation import Distiller

from ..results.evaluation import load


def with_teacher(table, model):
    """The model to call `fit` on: the compiled model itself, or a compiled `Distiller` around it.

    Both share one optimizer, so that the student alone is saved, averaged and evaluated.

    Args:
        table: `DistillTable`.
        model: compiled `keras.Model` on pixels 0..255.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: for a teacher that cannot be loaded or does not fit the model.
    """
    if not table.teacher:
        return model
    try:
        teacher, _ = load(table.teacher)
        used = {"temperature": table.temperature} if table.kind == "soft" else {}
        distiller = Distiller(model, teacher, table.kind, alpha=table.alpha, **used)
    except ValueError as error:
        raise ValueError(f"distill.teacher cannot teach: {error}") from error
    distiller.compile(model.optimizer, model.loss, weighted_metrics=["accuracy"])
    return distiller


def student_of(model):
    """The student of a `Distiller`; any other model itself."""
    return model.student if isinstance(model, Distiller) else model
