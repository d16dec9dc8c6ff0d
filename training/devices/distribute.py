"""Distributed training, with the API of each backend.

| strategy | TensorFlow | JAX | PyTorch |
| --- | --- | --- | --- |
| "data" | `MirroredStrategy`; for several processes `MultiWorkerMirroredStrategy` | `keras.distribution.DataParallel` | `DistributedDataParallel`, one process per device |
| "model" | - | `keras.distribution.ModelParallel`: weights and optimizer are sharded too | - |

`train.batch_size` is the global batch size, over all devices.
"""  # noqa: E501

import contextlib
from dataclasses import dataclass, field

import keras

from ..data.pipeline import Part
from . import jax, tensorflow, torch
from .process_group import ProcessGroup


@dataclass
class Devices:
    """The devices of a run.

    Attributes:
        strategy: "none", "data" or "model".
        group: `ProcessGroup` of the run.
        count: int, number of devices in all processes.
        tf_strategy: `tf.distribute.Strategy` or None.
    """

    strategy: str = "none"
    group: ProcessGroup = field(default_factory=ProcessGroup)
    count: int = 1
    tf_strategy: object = None

    @property
    def alone(self):
        """Whether the run uses a single device."""
        return self.strategy == "none"

    def scope(self):
        """Context in which the model must be built, compiled and restored."""
        return self.tf_strategy.scope() if self.tf_strategy else contextlib.nullcontext()

    def dataset(self, make):
        """The data set for `model.fit` and `model.evaluate`.

        Args:
            make: function from a `Part` to a `tf.data.Dataset` of this process's part of a batch.
        """
        part = Part(self.group.rank, self.group.world_size)
        if self.tf_strategy is None:
            return make(part)
        pieces = self.tf_strategy.num_replicas_in_sync // part.world_size
        return self.tf_strategy.distribute_datasets_from_function(
            lambda context: make(part._replace(pieces=pieces))
        )

    def check(self, recipe):
        """Raises a `ValueError` for settings of a recipe that the devices do not support."""
        batch_size, accumulate = recipe.train.batch_size, recipe.optimizer.accumulate
        if batch_size % self.count:
            raise ValueError(
                f"train.batch_size must be a multiple of the number of devices, {self.count}. "
                f"Received: train.batch_size={batch_size}"
            )
        if self.tf_strategy is not None and accumulate > 1:
            raise ValueError(
                "Keras cannot accumulate gradients under tf.distribute; set optimizer.accumulate=1 "
                f"or distribute.strategy='none'. Received: optimizer.accumulate={accumulate}"
            )
        if self.tf_strategy is not None and recipe.train.jit_compile == "on":
            raise ValueError(
                "TensorFlow does not compile under tf.distribute; set train.jit_compile='auto' or "
                "distribute.strategy='none'. Received: train.jit_compile='on'"
            )
        one_process = keras.backend.backend() == "jax" and self.group.world_size == 1
        if recipe.distill.teacher and not (self.alone or one_process):
            raise ValueError(
                "A teacher needs one device, or JAX with several in one process; set "
                "distribute.strategy='none'. Received: "
                f"distill.teacher={recipe.distill.teacher!r}, {self.count} devices of "
                f"{self.group.world_size} processes, {keras.backend.backend()}"
            )
        lora = recipe.finetune.train == "lora"
        if lora and keras.backend.backend() == "jax" and self.group.world_size > 1:
            raise ValueError(
                "Low-rank updates cannot be saved from several processes with JAX; set "
                "finetune.train='all', or use one process. Received: finetune.train='lora', "
                f"WORLD_SIZE={self.group.world_size}"
            )

    def check_model(self, model):
        """Raises a `ValueError` if strategy "model" shards no weight of the model."""
        if self.strategy != "model":
            return
        split = [v for v in model.variables if any(v.value.sharding.spec)]
        if not split:
            raise ValueError(
                "distribute.strategy='model' shards the attention and the MLPs of a "
                f"VisionTransformer: use 'data'. Received: a {type(model).__name__} without them"
            )

    def replicate(self, model, batch):
        """Synchronizes the steps of a compiled model over all devices, where Keras does not.

        Gradients and metrics are those of the whole batch on every backend. So are the statistics
        of batch normalisation on JAX, whose batch is one array, and on TensorFlow; with PyTorch
        each process normalises its part of the batch by its own, and the main process saves its.

        Args:
            model: compiled `keras.Model`.
            batch: (inputs, targets), arrays of a batch of one.
        """
        if self.tf_strategy is not None:
            tensorflow.synchronize_statistics(model)
            with self.scope():
                tensorflow.build(model, batch)
            if self.group.world_size > 1:
                tensorflow.mean_of_workers(model)
            tensorflow.clip_what_is_summed(model.optimizer)
        elif keras.backend.backend() == "torch" and not self.alone:
            torch.replicate(model)

    @property
    def sharded(self):
        """Whether weights are sharded over processes, so that all take part in a checkpoint."""
        return self.strategy == "model" and self.group.world_size > 1

    def asked(self, stop):
        """The `Stopped` that was requested, or None.

        With sharded weights it is the same in all processes, which must call this after the same
        steps.
        """
        if self.sharded and self.group.is_main:
            self.group.broadcast([int(stop.asked.signal) if stop.asked else 0])
        elif self.sharded and (number := self.group.receive()[0]):
            stop.ask(number)
        return stop.asked

    @contextlib.contextmanager
    def savable(self, model):
        """Context with the model that this process saves: with several JAX processes a copy.

        It is None in all processes except the main one, which saves the model.
        """
        if keras.backend.backend() != "jax" or self.group.world_size == 1:
            yield model
            return
        # Under a distribution, assigning a variable compares the value across all processes.
        distribution = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield jax.copy_on_host(model, self.group.is_main)
        finally:
            keras.distribution.set_distribution(distribution)

    def leave(self):
        """Shuts distribution down; the main process continues alone."""
        if keras.backend.backend() == "jax":
            keras.distribution.set_distribution(None)
            if self.group.world_size > 1:
                jax.shutdown()  # waits for the others, which call it too
        if not self.group.is_main:
            self.group.wait_for_end()


def start(strategy, group):
    """Sets up the devices of a strategy; all processes must call it before any computation.

    Args:
        strategy: "auto" ("data" if there are several devices or processes, otherwise "none"),
            "none", "data" or "model".
        group: `ProcessGroup`.

    Returns:
        `Devices`.

    Raises:
        ValueError: if the backend lacks the strategy or the devices for it.
    """
    backend = keras.backend.backend()
    if strategy == "none" and group.world_size > 1:
        raise ValueError(
            "distribute.strategy='none' is for one process; set 'auto' or 'data'. "
            f"Received: WORLD_SIZE={group.world_size}"
        )
    if strategy == "model" and backend != "jax":
        raise ValueError(
            "distribute.strategy='model' needs the JAX backend: KERAS_BACKEND=jax. "
            f"Received: {backend}"
        )
    if strategy == "none":
        return Devices()
    tf_strategy = None
    if backend == "tensorflow":
        tf_strategy = tensorflow.start(group)
        count = tf_strategy.num_replicas_in_sync if tf_strategy else 1
    elif backend == "jax":
        count = jax.start(strategy, group)
    else:
        count = torch.start(group)
    if count == 1 and strategy != "auto":
        raise ValueError(
            f"distribute.strategy={strategy!r} needs several devices or processes; set 'auto'. "
            "Received: one device"
        )
    if count == 1:
        return Devices()
    used = "model" if strategy == "model" else "data"
    return Devices(used, group, count, tf_strategy)
