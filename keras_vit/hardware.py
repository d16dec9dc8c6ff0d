"""The CPU and the accelerators that the backend computes on."""

import os
import platform
import re
from pathlib import Path

import keras


def hardware():
    """Describes the CPU and the accelerators that the backend sees.

    Returns:
        str, such as "AMD EPYC, 2 cores, 1 x NVIDIA H100 80GB HBM3".
    """
    cpuinfo, name = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        name = found[1] if found else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    devices = accelerators()
    kinds = [f"{devices.count(kind)} x {kind}" for kind in dict.fromkeys(devices)]
    return ", ".join([f"{name}, {cores} cores", *kinds])


def accelerators():
    """Names of the accelerators (GPUs, TPUs) that the backend sees, as a list of str."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if backend == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(device) for device in devices]
    return [found.get("device_name", "GPU") for found in details]


def jax_platform():
    """The platform on which JAX computes now, inside `keras.device` too.

    Returns:
        str, "cpu", "gpu" or "tpu".
    """
    import jax

    device = jax.config.jax_default_device
    return jax.default_backend() if device is None else getattr(device, "platform", device)
