"""`DistributedDataParallel` of PyTorch, a process a device, in the steps of `model.fit`."""

import functools
import os

import keras


def start(group):
    """Joins the process group; returns how many devices train together."""
    import torch

    gpus = torch.cuda.device_count()
    if group.world_size == 1:
        if gpus > 1:
            print(f"One of {gpus} GPUs; for all: torchrun --nproc-per-node {gpus} -m training ...")
        return 1
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    torch.distributed.init_process_group("nccl" if gpus else "gloo")
    return group.world_size


def replicate(model):
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
