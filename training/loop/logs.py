"""Learning curves while a run goes on: TensorBoard and Weights & Biases."""

import importlib.util
import os
import uuid

import keras

# What each key of [log] needs beside keras; TensorFlow's writer is used on every backend.
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}


def check(log):
    """Raises for a log whose package is missing.

    Args:
        log: `LogTable`.
    """
    for key, package in PACKAGES.items():
        if getattr(log, key) and importlib.util.find_spec(package) is None:
            raise ValueError(
                f"log.{key} needs the package {package}: pip install {package}. "
                f"Received: log.{key}={getattr(log, key)!r}"
            )


def callbacks(recipe, folder):
    """The callbacks of the [log] table, to come behind `Checkpoint`.

    There an epoch is logged when it is kept, so that a run that was killed and goes on logs none
    twice.

    Args:
        recipe: `Recipe`.
        folder: `RunFolder`.

    Returns:
        list of `keras.callbacks.Callback`.

    Raises:
        ConnectionError: where Weights & Biases refuses to begin.
    """
    found = []
    if recipe.log.tensorboard:
        found.append(TensorBoard(folder.tensorboard, write_graph=False))
    if recipe.log.wandb:
        found.append(Wandb(_begin_wandb(recipe, folder)))
    return found


class TensorBoard(keras.callbacks.TensorBoard):
    """`keras.callbacks.TensorBoard` with every epoch on disk as soon as it is over.

    Validation is logged with its epoch and not, as Keras does besides, by the step at which it
    was made: that would be before the epoch is kept.
    """

    def on_test_end(self, logs=None):
        self._pop_writer()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        for writer in (self._train_writer, self._val_writer):
            writer.flush()


class Wandb(keras.callbacks.Callback):
    """Sends a row of `metrics.csv` an epoch; wandb's own callback for Keras fails on JAX (0.31).

    Args:
        run: what `wandb.init` has returned.
    """

    def __init__(self, run):
        super().__init__()
        self.run = run
        run.define_metric("*", step_metric="epoch")

    def on_epoch_end(self, epoch, logs=None):
        rate = float(self.model.optimizer.learning_rate)
        self.run.log({"epoch": epoch + 1, **(logs or {}), "learning_rate": rate})

    def on_train_end(self, logs=None):
        self.run.finish()


def _begin_wandb(recipe, folder):
    """A run of Weights & Biases that belongs to the run folder, gone on with where it began."""
    os.environ.setdefault("WANDB_SILENT", "true")  # the terminal is the progress bar's
    import wandb

    if not folder.wandb.exists():
        folder.write_whole(folder.wandb, uuid.uuid4().hex + "\n")
    try:
        return wandb.init(
            project=recipe.log.wandb,
            name=folder.path.resolve().name,
            id=folder.wandb.read_text(encoding="utf-8").strip(),
            resume="allow",
            dir=str(folder.path),
            config=recipe.as_dict(),
        )
    except Exception as error:  # of many kinds, by the package's version
        raise ConnectionError(f"wandb.init failed: {error}") from error
