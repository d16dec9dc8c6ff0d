"""How far an export is from its model."""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class ExportReport(NamedTuple):
    """What was written, and how far it is from the model; prints as one line.

    Attributes:
        path: where the export lies.
        format: "saved_model", "onnx", "litert", "openvino" or "torch".
        inputs: "images", "pixels" or "jpeg".
        precision: that was asked for, or None for the model's own.
        runtime: what ran it, with the version.
        max_difference: largest absolute difference of any output on the samples.
        top1_agreement: share of samples whose largest output is the same one.
        size_bytes: size of the export on disk.
        latency_s: median seconds for one sample in that runtime, on this machine's CPU.
        model_latency_s: the same of the model, compiled, where it is now.
    """

    path: Path
    format: str
    inputs: str
    precision: str | None
    runtime: str
    max_difference: float
    top1_agreement: float
    size_bytes: int
    latency_s: float
    model_latency_s: float

    def __str__(self):
        precision = f" ({self.precision})" if self.precision else ""
        return (
            f"{self.format}{precision} at {self.path}: {self.size_bytes / 2**20:.1f} MiB, reloaded "
            f"and run with {self.runtime}; largest difference {self.max_difference:.2e}, top-1 "
            f"agreement {100 * self.top1_agreement:.1f} %, {1000 * self.latency_s:.2f} ms a sample "
            f"(the model: {1000 * self.model_latency_s:.2f} ms)"
        )


def compare(expected, actual):
    """Compares outputs.

    Args:
        expected: dict of name to array, samples first.
        actual: the same, or None where there is no such output.

    Returns:
        (largest difference, largest magnitude expected, share of samples with the same top-1).

    Raises:
        ValueError: for outputs of other names or shapes.
    """
    shapes = [{name: np.shape(x) for name, x in y.items()} for y in (expected, actual)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "The exported model gives other outputs; nothing was kept. "
            f"Expected: {shapes[0]}. Received: {shapes[1]}"
        )
    differences = [np.abs(expected[name] - actual[name]).max() for name in expected]
    magnitude = max(np.abs(x).max() for x in expected.values())
    same = [expected[name].argmax(-1) == actual[name].argmax(-1) for name in expected]
    agreement = np.mean(np.concatenate([x.reshape(-1) for x in same]))
    # A maximum of NaN is NaN, which no limit lets through.
    return float(np.max(differences)), float(magnitude), float(agreement)


def size_of(path):
    """Bytes of a file or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
