"""Logs learning curves to TensorBoard and Weights & Biases during training."""

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
    """The callbacks of the [log] table, to run after `Checkpoint`.

    An epoch is then logged after its checkpoint was written, so that a killed and resumed run logs
    none twice.

    Args:
        recipe: `Recipe`.
        folder: `RunFolder`.

    Returns:
        list of `keras.callbacks.Callback`.

    Raises:
        ConnectionError: if `wandb.init` fails.
    """
    found = []
    if recipe.log.tensorboard:
        found.append(TensorBoard(folder.tensorboard, write_graph=False))
    if recipe.log.wandb:
        found.append(Wandb(_begin_wandb(recipe, folder)))
    return found


class TensorBoard(keras.callbacks.TensorBoard):
    """`keras.callbacks.TensorBoard` that flushes every epoch at its end.

    Validation is logged by epoch alone. Keras also logs it by step, before the checkpoint of the
    epoch is written.
    """

    def on_test_end(self, logs=None):
        self._pop_writer()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        for writer in (self._train_writer, self._val_writer):
            writer.flush()


class Wandb(keras.callbacks.Callback):
    """Logs the values of `metrics.csv` every epoch; wandb's own Keras callback fails on JAX (0.31).

    Args:
        run: the run that `wandb.init` returned.
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
    """The Weights & Biases run of a run folder, new or resumed."""
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
