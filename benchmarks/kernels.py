"""The kernels that a call runs on the device, by name: how many, and how long they take.

Without a GPU these are PyTorch's operators, or XLA's operations on its threads.
"""

import re
import tempfile
from pathlib import Path

TOP = 25
ATTENTION = re.compile(r"flash|fmha|sdpa|attention", re.IGNORECASE)  # kernels of fused attention


def of_torch(call):
    """The kernels of `call` by torch.profiler; see `summary`."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as profiler:
        call()
    if not on_gpu:
        return summary((e.name, e.self_cpu_time_total / 1e3) for e in profiler.events())
    return summary(
        (event.name, event.time_range.elapsed_us() / 1e3)
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
        and not getattr(event, "is_user_annotation", False)  # it spans kernels
    )


def of_jax(call):
    """The kernels of `call` by jax.profiler; see `summary`."""
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            call()
        (path,) = Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
        if jax.default_backend() == "cpu":
            return summary(_host_events(planes))
        events = list(_device_events(planes))
        if not events:
            named = {plane.name: [line.name for line in plane.lines] for plane in planes}
            raise RuntimeError(f"The profile must have streams of a GPU. Received: {named}")
        return summary(events)


def _device_events(planes):
    """What ran on the streams of GPUs: (name, ms)."""
    for plane in planes:
        if plane.name.startswith("/device:"):
            for line in plane.lines:
                if line.name.startswith("Stream"):  # other lines sum these up
                    for event in line.events:
                        yield event.name, event.duration_ns / 1e6


def _host_events(planes):
    """XLA's operations on a CPU: (name, ms)."""
    for plane in planes:
        for line in plane.lines:
            for event in line.events:
                operation = "hlo_op" in dict(event.stats)
                if operation and not event.name.startswith("end: "):
                    yield event.name, event.duration_ns / 1e6


def summary(events):
    """Adds up what ran.

    Args:
        events: iterable of (name, milliseconds).

    Returns:
        dict with the number of kernels and of those of fused attention, without copies (kernels,
        attention_kernels), milliseconds of all (kernel_ms) and the longest names with their
        milliseconds and calls (top). Names that differ by a number at their end count as one.
    """
    found, number, attention = {}, 0, 0
    for name, milliseconds in events:
        if not name.startswith(("Memcpy", "Memset")):
            number += 1
            # Kernels that torch.compile wrote are named after their neighbours.
            attention += not name.startswith("triton_") and bool(ATTENTION.search(name))
        own = found.setdefault(re.sub(r"([._]\d+)+$", "", name), [0.0, 0])
        own[0] += milliseconds
        own[1] += 1
    top = sorted(found.items(), key=lambda item: -item[1][0])[:TOP]
    return {
        "kernels": number,
        "attention_kernels": attention,
        "kernel_ms": sum(own[0] for own in found.values()),
        "top": [(name, *own) for name, own in top],
    }
