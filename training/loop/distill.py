"""The [distill] table at work: a run's model as the student of a teacher."""

from keras_vit.distillation import Distiller
from training.results.evaluation import load


def with_teacher(table, model):
    """What `fit` is called on: the compiled model itself, or a compiled `Distiller` around it.

    Both have one optimizer, so that the model alone is what is saved, averaged and evaluated.

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
    """The model that a run is about: the student of a `Distiller`, else the model itself."""
    return model.student if isinstance(model, Distiller) else model
