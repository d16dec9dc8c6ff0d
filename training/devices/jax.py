"""`keras.distribution` on JAX: data parallelism, and weights split over the devices."""

import keras
import numpy as np

from keras_vit.layers.initializers import no_initialization

# The axis along which a matrix is sharded with strategy "model", by path: that of its inputs, as in
# fully sharded data parallelism (Rajbhandari et al. 2020, arXiv:1910.02054, stage 3).
VIT_LAYOUT = {
    ".*attention/qkv/kernel": 0,
    ".*attention/proj/kernel": 0,
    ".*mlp/fc./kernel": 0,
}


def start(strategy, group):
    """Sets Keras's distribution over all devices and processes; returns the number of devices."""
    import jax

    if group.world_size > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.utils.set_random_seed(0)  # otherwise Keras draws one and compares it
        host, port = group.address
        keras.distribution.initialize(f"{host}:{port}", group.world_size, group.rank)
    devices = keras.distribution.list_devices()
    if len(devices) == 1:
        return 1
    if strategy != "model":
        found = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    else:
        mesh = keras.distribution.DeviceMesh((len(devices),), ("devices",), devices)
        layout = keras.distribution.LayoutMap(mesh)
        for path, axis in VIT_LAYOUT.items():
            layout[path] = tuple("devices" if i == axis else None for i in range(2))
        found = keras.distribution.ModelParallel(layout_map=layout, auto_shard_dataset=False)
    keras.distribution.set_distribution(found)
    return len(devices)


def copy_on_host(model, wanted):
    """A compiled copy of a JAX model on the CPU of this process, or None if not `wanted`.

    If weights are sharded over processes, all processes must call it.
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
    """The array of a JAX variable, which may be sharded over several processes."""
    from jax.experimental.multihost_utils import process_allgather

    value = variable.value
    if value.is_fully_addressable or value.is_fully_replicated:
        return np.asarray(value)
    return process_allgather(value, tiled=True)


def shutdown():
    """Disconnects the processes; waits until all of them call it."""
    import jax

    jax.distributed.shutdown()
