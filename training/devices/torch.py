"""PyTorch's `DistributedDataParallel` in the steps of `model.fit`, with one process per device."""

import functools
import os

import keras

from ..terminal import PACKAGE


def start(group):
    """Joins the process group; returns the number of devices."""
    import torch

    gpus = torch.cuda.device_count()
    if group.world_size == 1:
        if gpus > 1:
            print(
                f"Using one of {gpus} GPUs. To use all: "
                f"torchrun --nproc-per-node {gpus} -m {PACKAGE} ..."
            )
        return 1
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    torch.distributed.init_process_group("nccl" if gpus else "gloo")
    return group.world_size


def replicate(model):
    """Replaces the training step of a model by one with `DistributedDataParallel`."""
    import torch

    device = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    parallel = torch.nn.parallel.DistributedDataParallel(model, device_ids=device)
    own_result = model.get_metrics_result
    # Bound to the model as instance attributes: `fit` looks them up there.
    model.train_step = functools.partial(_train_step, model, parallel)
    model.get_metrics_result = functools.partial(_metrics_of_all, model, own_result)


def _train_step(model, parallel, batch):
    """Keras's training step, with gradients that `parallel` averages over the processes."""
    import torch

    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    outputs = parallel(x, training=True)
    model.zero_grad()
    loss = model.compute_loss(x, y, outputs, sample_weight, training=True)
    model.metrics[0].update_state(loss, sample_weight=len(keras.tree.flatten(x)[0]))
    model.optimizer.scale_loss(loss).backward()
    with torch.no_grad():
        variables = model.trainable_variables
        model.optimizer.apply([variable.value.grad for variable in variables], variables)
    return model.compute_metrics(x, y, outputs, sample_weight)


def _metrics_of_all(model, own_result):
    """The metrics over all processes. The variables of a mean are sums, so these are added."""
    import torch

    variables = model.metrics_variables
    kept = [variable.value.clone() for variable in variables]
    sums = torch.cat([value.double().reshape(-1) for value in kept])
    torch.distributed.all_reduce(sums)
    for variable, value in zip(variables, sums.split([x.numel() for x in kept]), strict=True):
        variable.assign(value.reshape(variable.shape).to(variable.value.dtype))
    try:
        return own_result()
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
