"""The progress bar of a run."""

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..terminal import clock


class ProgressOfRun(keras.callbacks.Callback):
    """One progress bar for the whole run; one line per epoch if the output is not a terminal.

    Args:
        epochs: int, epochs of the whole run.
        first_epoch: int, epochs that a resumed run has trained already.
        steps: int, steps an epoch.
        batch_size: int, images a step.
        first_step: int, steps of the first epoch that are done already.
        console: `rich.console.Console`; by default on standard output.
        metric: str, name of the metric in the logs.
        title: str, what it is called on the terminal.
    """

    def __init__(
        self,
        epochs,
        first_epoch,
        steps,
        batch_size,
        first_step=0,
        console=None,
        metric="accuracy",
        title="accuracy",
    ):
        super().__init__()
        self.epochs, self.first_epoch = epochs, first_epoch
        self.metric, self.title = metric, title
        self.steps, self.batch_size = steps, batch_size
        self.begun = first_epoch * steps + first_step  # steps of the run that are done already
        self.console = console or Console(highlight=False)
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[facts]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            expand=True,
        )
        self.validation = ""

    def on_train_begin(self, logs=None):
        self.begin = time.perf_counter()
        self.epoch = self.first_epoch
        self.task = self.bar.add_task(
            "",
            total=self.epochs * self.steps,
            completed=self.begun,
            epoch=f"{self.first_epoch + 1}/{self.epochs}",
            facts="starting",
        )
        self.bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.epoch_begin = time.perf_counter()
        self.before = max(self.begun - epoch * self.steps, 0)  # steps of this epoch, likewise

    def on_train_batch_end(self, batch, logs=None):
        if not self.bar.disable:
            self._show(self.before + batch + 1, logs)

    def on_epoch_end(self, epoch, logs=None):
        if f"val_{self.metric}" in logs:
            self.validation = f"  val {100 * logs[f'val_{self.metric}']:.1f} %"
        self._show(self.steps, logs)
        if self.bar.disable:
            self.console.print(
                f"epoch {epoch + 1}/{self.epochs}  {self._facts(self.steps, logs)}", soft_wrap=True
            )

    def on_train_end(self, logs=None):
        self.stop()

    def stop(self):
        """Releases the terminal; also after an exception."""
        self.bar.stop()

    def _show(self, steps, logs):
        self.bar.update(
            self.task,
            completed=self.epoch * self.steps + steps,
            epoch=f"{self.epoch + 1}/{self.epochs}",
            facts=self._facts(steps, logs),
        )

    def _facts(self, steps, logs):
        now = time.perf_counter()
        rate = (steps - self.before) * self.batch_size / (now - self.epoch_begin)
        done = self.epoch * self.steps + steps
        left = (now - self.begin) / (done - self.begun) * (self.epochs * self.steps - done)
        found = f" {100 * logs[self.metric]:.1f} %" if self.metric in logs else ""
        return (
            f"loss {logs['loss']:.3f}  {self.title}{found}{self.validation}  "
            f"{rate:,.0f} images/s  {clock(left)} left"
        )
