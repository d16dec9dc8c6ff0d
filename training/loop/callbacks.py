"""Callbacks for reproducible seeds, for losses that are not finite, and for `metrics.csv`."""

import keras
import numpy as np

from ..files import replace
from .checkpoint import seed_states
from .checkpoint_file import describe
from .stopping import Diverged


class ReseedEveryEpoch(keras.callbacks.Callback):
    """Makes dropout and drop path a function of (seed, epoch, step).

    Keras does not save the states of seed generators in `.keras` files. With this callback a
    resumed run draws the same numbers as one that was not interrupted.

    Args:
        seed: int.
        first_step: int, steps of the first epoch that are done already.
        within_epoch: dict of arrays from `training.loop.restore.restore`, the state within that
            epoch.
        process: int, rank of the process; with PyTorch each rank draws its own numbers.
    """

    def __init__(self, seed, first_step=0, within_epoch=None, process=0):
        super().__init__()
        self.seed, self.first_step, self.process = seed, first_step, process
        self.kept = within_epoch
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if keras.backend.backend() == "torch":
            import torch

            # Dropout uses this generator.
            torch.manual_seed(self._draw(0, self.first_step + batch, self.process))
        if batch > 0:
            return
        for i, state in enumerate(seed_states(self.model)):
            state.assign(np.array([self._draw(i + 1, 0), 0]).astype(state.dtype))
            if self.kept:
                state.assign(self.kept[f"seed{i}"])

    def on_train_batch_end(self, batch, logs=None):
        if not self.kept:
            return
        # Only now, because Keras creates some of these variables in the first step. All are sums.
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        for i, variable in enumerate(self.model.metrics_variables):
            if f"metric{i}" in self.kept:
                variable.assign_add(self.kept[f"metric{i}"])
        self.kept = None

    def _draw(self, *numbers):
        state = np.random.SeedSequence([self.seed, self.epoch, *numbers]).generate_state(1)
        return int(state[0] >> 1)


class StopOnNaN(keras.callbacks.Callback):
    """Raises `Diverged` at the first step after which the mean loss is NaN or infinite.

    Args:
        checkpoint: `Path` of the file that the message names.
        first_step: int, steps of the first epoch that are done already.
        skip: int, maximal number of such steps that are skipped; the optimizer must skip their
            update (`training.recipe.optimizers.optimizer`). The means of the epoch are then reset.
        skipped: int, number of steps that a resumed run has already skipped.
    """

    def __init__(self, checkpoint, first_step=0, skip=0, skipped=0):
        super().__init__()
        self.checkpoint, self.first_step = checkpoint, first_step
        self.skip, self.skipped = skip, skipped
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = float(logs["loss"])
        if np.isfinite(loss):
            return
        rate = float(self.model.optimizer.learning_rate)
        where = (
            f"loss={loss} in epoch {self.epoch + 1}, step {self.first_step + batch + 1}, at a "
            f"learning rate of {rate:.2e}"
        )
        if self.skipped == self.skip:
            skipped = f", after {self.skip} skipped steps" if self.skip else ""
            raise Diverged(
                f"The loss must stay finite; {describe(self.checkpoint)}. Lower "
                f"optimizer.learning_rate or set optimizer.clip_norm. Received: {where}{skipped}"
            )
        self.skipped += 1
        print(f"skipped a step, {self.skipped} of at most {self.skip}: {where}", flush=True)
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        self.model.reset_metrics()


class Metrics(keras.callbacks.CSVLogger):
    """`metrics.csv` with a row per epoch, counted from 1; resuming adds no epoch twice.

    Args:
        path: `Path` of the file.
        first_epoch: int, epochs that a resumed run has trained already.
    """

    def __init__(self, path, first_epoch=0):
        super().__init__(str(path), append=first_epoch > 0)
        if path.exists():
            # An epoch may have been logged and then lost before its checkpoint was written.
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = "".join(lines[: 1 + first_epoch])
            scratch = path.with_name(f".writing-{path.name}")
            scratch.write_text(kept, encoding="utf-8")
            replace(scratch, path)

    def on_epoch_end(self, epoch, logs=None):
        rate = float(self.model.optimizer.learning_rate)
        super().on_epoch_end(epoch + 1, {**(logs or {}), "learning_rate": rate})
