"""One model on many devices and machines, by what each backend has for that.

| strategy | TensorFlow | JAX | PyTorch |
| --- | --- | --- | --- |
| "data" | `MirroredStrategy`, of several processes `MultiWorkerMirroredStrategy` | `keras.distribution.DataParallel` | `DistributedDataParallel`, a process a device |
| "model" | - | `keras.distribution.ModelParallel`: weights and optimizer split too | - |

Everywhere `train.batch_size` is that of all devices together.
"""  # noqa: E501

import contextlib
import functools
import json
import os
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_vit.layers.initializers import no_initialization
from training.data.pipeline import Part
from training.devices.processes import Processes

# Which axis of a matrix is split in strategy "model", by its path: that of its inputs, as in fully
# sharded data parallelism (Rajbhandari et al. 2020, arXiv:1910.02054, stage 3).
VIT_LAYOUT = {
    ".*attention/qkv/kernel": 0,
    ".*attention/proj/kernel": 0,
    ".*mlp/fc./kernel": 0,
}


@dataclass
class Devices:
    """What a run computes on.

    Attributes:
        strategy: "none", "data" or "model".
        processes: `Processes` of the run.
        count: int, devices of all processes together.
        tf_strategy: `tf.distribute.Strategy` or None.
    """

    strategy: str = "none"
    processes: Processes = field(default_factory=Processes)
    count: int = 1
    tf_strategy: object = None

    @property
    def alone(self):
        """Whether there is only one device."""
        return self.strategy == "none"

    def scope(self):
        """Within it the model must be made, compiled and restored."""
        return self.tf_strategy.scope() if self.tf_strategy else contextlib.nullcontext()

    def dataset(self, make):
        """What `model.fit` and `model.evaluate` take.

        Args:
            make: function from a `Part` to a `tf.data.Dataset` of this process' part of a batch.
        """
        part = Part(self.processes.index, self.processes.count)
        if self.tf_strategy is None:
            return make(part)
        pieces = self.tf_strategy.num_replicas_in_sync // part.count
        return self.tf_strategy.distribute_datasets_from_function(
            lambda context: make(part._replace(pieces=pieces))
        )

    def check(self, recipe):
        """Raises for what a recipe has and its devices cannot do."""
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
        one_process = keras.backend.backend() == "jax" and self.processes.count == 1
        if recipe.distill.teacher and not (self.alone or one_process):
            raise ValueError(
                "A teacher needs one device, or JAX with several in one process; set "
                "distribute.strategy='none'. Received: "
                f"distill.teacher={recipe.distill.teacher!r}, {self.count} devices of "
                f"{self.processes.count} processes, {keras.backend.backend()}"
            )
        lora = recipe.finetune.train == "lora"
        if lora and keras.backend.backend() == "jax" and self.processes.count > 1:
            raise ValueError(
                "Low-rank updates cannot be saved from several processes with JAX; set "
                "finetune.train='all', or use one process. Received: finetune.train='lora', "
                f"WORLD_SIZE={self.processes.count}"
            )

    def check_model(self, model):
        """Raises for a model whose matrices cannot be split, or none of which is."""
        if self.strategy != "model":
            return
        split = [v for v in model.variables if any(v.value.sharding.spec)]
        if not split:
            raise ValueError(
                "distribute.strategy='model' splits the attention and the MLPs of a "
                f"VisionTransformer. Received: a model without, {type(model).__name__}"
            )

    def replicate(self, model):
        """Makes the steps of a compiled model those of all devices, where Keras does not."""
        if self.tf_strategy is not None:
            with self.scope():
                _build(model)
            if self.processes.count > 1:
                _mean_of_workers(model)
            _clip_what_is_summed(model.optimizer)
        elif keras.backend.backend() == "torch" and not self.alone:
            _replicate(model)

    @property
    def sharded(self):
        """Whether no process has all of the weights, so that all take part in a checkpoint."""
        return self.strategy == "model" and self.processes.count > 1

    def asked(self, stop):
        """The `Stopped` that somebody has asked for, or None; of sharded weights the same in all.

        There all processes must call this after the same steps.
        """
        if self.sharded and self.processes.first:
            self.processes.tell([int(stop.asked.signal) if stop.asked else 0])
        elif self.sharded and (number := self.processes.hear()[0]):
            stop.ask(number)
        return stop.asked

    @contextlib.contextmanager
    def savable(self, model):
        """Within it what this process saves of a model: with JAX and other processes a copy of it.

        It is None where the first process saves, and this one has handed over its weights.
        """
        if keras.backend.backend() != "jax" or self.processes.count == 1:
            yield model
            return
        # Whatever is put into a variable of all processes they compare with each other first.
        distribution = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield _copy_on_host(model, self.processes.first)
        finally:
            keras.distribution.set_distribution(distribution)

    def leave(self):
        """Ends the work of the processes with each other; the first one goes on alone."""
        if keras.backend.backend() == "jax":
            import jax

            keras.distribution.set_distribution(None)
            if self.processes.count > 1:
                jax.distributed.shutdown()  # waits for the others, which come here too
        if not self.processes.first:
            self.processes.wait_for_end()


def start(strategy, processes):
    """Takes the devices of a strategy; all processes must call it, before anything is computed.

    Args:
        strategy: "auto" (data parallel where there are several devices or processes), "none",
            "data" or "model".
        processes: `Processes`.

    Returns:
        `Devices`.

    Raises:
        ValueError: where the backend has no such strategy or not the devices for it.
    """
    backend = keras.backend.backend()
    if strategy == "none" and processes.count > 1:
        raise ValueError(
            "distribute.strategy='none' is for one process; set 'auto' or 'data'. "
            f"Received: WORLD_SIZE={processes.count}"
        )
    if strategy == "model" and backend != "jax":
        raise ValueError(
            "distribute.strategy='model' needs the JAX backend: KERAS_BACKEND=jax. "
            f"Received: {backend}"
        )
    if strategy == "none":
        return Devices()
    found = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend](strategy, processes)
    if found.count == 1 and strategy != "auto":
        raise ValueError(
            f"distribute.strategy={strategy!r} needs several devices or processes; set 'auto'. "
            "Received: one device"
        )
    return found if found.count > 1 else Devices()


def _tensorflow(strategy, processes):
    import tensorflow as tf

    if processes.count > 1:
        task = {"type": "worker", "index": processes.index}
        os.environ["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": processes.addresses}, "task": task}
        )
        found = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        if len(devices) == 1:
            return Devices()
        found = tf.distribute.MirroredStrategy([device.name for device in devices])
    return Devices("data", processes, found.num_replicas_in_sync, found)


def _jax(strategy, processes):
    import jax

    if processes.count > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.utils.set_random_seed(0)  # or Keras would draw one and compare
        host, port = processes.address
        keras.distribution.initialize(f"{host}:{port}", processes.count, processes.index)
    devices = keras.distribution.list_devices()
    if len(devices) == 1:
        return Devices()
    if strategy != "model":
        found = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    else:
        mesh = keras.distribution.DeviceMesh((len(devices),), ("devices",), devices)
        layout = keras.distribution.LayoutMap(mesh)
        for path, axis in VIT_LAYOUT.items():
            layout[path] = tuple("devices" if i == axis else None for i in range(2))
        found = keras.distribution.ModelParallel(layout_map=layout, auto_shard_dataset=False)
    keras.distribution.set_distribution(found)
    return Devices("model" if strategy == "model" else "data", processes, len(devices))


def _torch(strategy, processes):
    import torch

    gpus = torch.cuda.device_count()
    if processes.count == 1:
        if gpus > 1:
            print(f"One of {gpus} GPUs; for all: torchrun --nproc-per-node {gpus} -m training ...")
        return Devices()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    torch.distributed.init_process_group("nccl" if gpus else "gloo")
    return Devices("data", processes, processes.count)


def _copy_on_host(model, wanted):
    """A compiled copy of a JAX model that lives on the CPU of this process, or None if not wanted.

    Where weights are split over processes, all of these must call it.
    """
    import jax

    values = map(_whole, [*model.variables, *model.optimizer.variables])
    if not wanted:
        for _ in values:  # one at a time: together they may not fit
            pass
        return None
    with jax.default_device(jax.local_devices(backend="cpu")[0]), no_initialization():
        copy = type(model).from_config(model.get_config())
        copy.compile_from_config(model.get_compile_config())  # it builds the optimizer too
        variables = [*copy.variables, *copy.optimizer.variables]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    return copy


def _whole(variable):
    """The array of a JAX variable, whose pieces may lie with several processes."""
    from jax.experimental.multihost_utils import process_allgather

    value = variable.value
    if value.is_fully_addressable or value.is_fully_replicated:
        return np.asarray(value)
    return process_allgather(value, tiled=True)


def _build(model):
    """Makes the variables of metrics and optimizer, for which Keras would ask a distributed batch.

    Of a batch of several workers with one device each Keras 3.15 cannot take the shape.
    """
    image, label = (np.zeros((1, *tensor.shape[1:])) for tensor in (model.input, model.output))
    model._symbolic_build(data_batch=(image, label))
    model._maybe_symbolic_build = lambda **batch: None


def _mean_of_workers(model):
    """Gives the results of a step an axis, over which Keras 3.15 takes the mean of the workers'."""
    for name in ("train_step", "test_step"):
        step = getattr(model, name)
        setattr(
            model,
            name,
            lambda batch, step=step: {key: value[None] for key, value in step(batch).items()},
        )


def _clip_what_is_summed(optimizer):
    """Sums gradients over the replicas before they are clipped; Keras 3.15 clips each replica's."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    clip, summed = optimizer._clip_gradients, optimizer._all_reduce_sum_gradients
    optimizer._clip_gradients = lambda gradients: clip(
        [gradient for gradient, _ in summed([(gradient, gradient) for gradient in gradients])]
    )
    optimizer._all_reduce_sum_gradients = lambda pairs: pairs


def _replicate(model):
    """Puts PyTorch's own data parallelism into the steps of `model.fit`."""
    import torch

    device = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    parallel = torch.nn.parallel.DistributedDataParallel(model, device_ids=device)
    own_result = model.get_metrics_result
    # Bound to the model as instance attributes: `fit` looks them up there.
    model.train_step = functools.partial(_train_step, model, parallel)
    model.get_metrics_result = functools.partial(_metrics_of_all, model, own_result)


def _train_step(model, parallel, batch):
    """A step as Keras makes it, but for the gradients, which `parallel` averages on the way."""
    import torch

    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    outputs = parallel(x, training=True)
    model.zero_grad()
    loss = model.compute_loss(x, y, outputs, sample_weight, training=True)
    model.metrics[0].update_state(loss, sample_weight=len(x))
    model.optimizer.scale_loss(loss).backward()
    with torch.no_grad():
        variables = model.trainable_variables
        model.optimizer.apply([variable.value.grad for variable in variables], variables)
    return model.compute_metrics(x, y, outputs, sample_weight)


def _metrics_of_all(model, own_result):
    """The means over all processes: every variable of a mean is a sum."""
    import torch

    variables = model.metrics_variables
    kept = [variable.value.clone() for variable in variables]
    sums = torch.stack([value.double() for value in kept])
    torch.distributed.all_reduce(sums)
    for variable, value in zip(variables, sums, strict=True):
        variable.assign(value.to(variable.value.dtype))
    try:
        return own_result()
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
