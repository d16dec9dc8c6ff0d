"""How far an export is from its model."""

from pathlib import Path
from typing import NamedTuple


class ExportReport(NamedTuple):
    """What was written, and how far it is from the model in float32; prints as one line.

    Attributes:
        path: where the export lies.
        format: "saved_model", "onnx", "litert", "openvino" or "torch".
        inputs: "images", "pixels" or "jpeg".
        precision: that was asked for, or None for the model's own.
        runtime: what ran it, with the version.
        max_difference: largest absolute difference of any output on the samples.
        top1_agreement: share of `answers` that are the same.
        size_bytes: size of the export on disk.
        latency_s: median seconds for one sample in that runtime, on this machine's CPU.
        model_latency_s: the same of the model, compiled, where it is now.
        difference: what was judged, of the output that was nearest to its limit: root mean square
            difference; of probabilities, of the logits that they come from.
        limit: that `difference` had to keep.
        spread: what the model's own outputs vary by from sample to sample.
        answers: number of answers (the largest output of a sample) that were compared.
        decided: number of those which the model decides by more than twice the limit.
        decided_agreement: share of the decided answers that are the same; 1.0 if none is decided.
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
    difference: float
    limit: float
    spread: float
    answers: int
    decided: int
    decided_agreement: float

    def __str__(self):
        precision = f" ({self.precision})" if self.precision else ""
        of_logits = " of logits" if self.inputs != "images" else ""
        decided = (
            f"{100 * self.decided_agreement:.1f} % of the {self.decided} that the model decides"
            if self.decided
            else "on none of them is the model decided enough to judge by"
        )
        return (
            f"{self.format}{precision} at {self.path}: {self.size_bytes / 2**20:.1f} MiB, reloaded "
            f"and run with {self.runtime}; largest difference {self.max_difference:.2e}, root mean "
            f"square{of_logits} {self.difference:.2e} (at most {self.limit:.2e}), top-1 agreement "
            f"{100 * self.top1_agreement:.1f} % of {self.answers} answers ({decided}), "
            f"{1000 * self.latency_s:.2f} ms a sample (the model: "
            f"{1000 * self.model_latency_s:.2f} ms){_changed(self.top1_agreement)}"
        )


def refusal(comparison, limits, precision):
    """Why an export in a precision was not kept, from its `Comparison` and its `Limits`."""
    judged, expected, received = comparison, "", ""
    if judged.decided:
        expected = (
            f", and the same top-1 on {100 * limits.agreement:.0f} % of the {judged.decided} "
            "answers that the model decides"
        )
        received = f" and {100 * judged.decided_agreement:.0f} %"
    return (
        f"The exported model does not give the model's outputs, in {precision}; nothing was kept. "
        f"Expected: a difference (root mean square) of at most {judged.limit:.2e}, where outputs "
        f"vary by {judged.spread:.2e} from sample to sample{expected}. "
        f"Received: {judged.difference:.2e}{received}{_changed(judged.agreement)}"
    )


def _changed(agreement):
    if agreement == 1:
        return ""
    return (
        f". {max(1, round(100 * (1 - agreement)))} % of the answers differ: compare on photographs "
        "of your own (samples=..., --samples of the command)"
    )


def size_of(path):
    """Bytes of a file or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
