"""`ExportReport`: the result of an export and of its comparison with the model."""

from pathlib import Path
from typing import NamedTuple


class ExportReport(NamedTuple):
    """The result of an export, compared with the model in float32. It prints as one line.

    Attributes:
        path: `Path` of the export.
        format: "saved_model", "onnx", "litert", "openvino" or "torch".
        inputs: "images", "pixels" or "jpeg".
        precision: the precision, or None for that of the model.
        runtime: str, the runtime and its version.
        max_difference: float, largest absolute difference of any output on the samples.
        top1_agreement: float, fraction of `answers` that are the same.
        size_bytes: int, size of the export on disk.
        latency_s: float, median seconds for one sample in the runtime, on the CPU.
        model_latency_s: float, median seconds for one sample of the model, compiled, on its device.
        difference: float, root mean square difference of the output that is nearest to its limit;
            for probabilities, of their logits.
        limit: float, the limit of `difference`.
        spread: float, standard deviation of the model's outputs over the samples.
        answers: int, number of top-1 answers (the largest output of a sample) that were compared.
        decided: int, number of answers that are ahead of the second by more than twice the limit.
        decided_agreement: float, fraction of the decided answers that are the same; 1.0 if none is
            decided.
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
            f"{100 * self.decided_agreement:.1f} % of the {self.decided} decided ones"
            if self.decided
            else "none of them is decided"
        )
        return (
            f"{self.format}{precision} at {self.path}: {self.size_bytes / 2**20:.1f} MiB, loaded "
            f"and run with {self.runtime}; largest difference {self.max_difference:.2e}, root mean "
            f"square{of_logits} {self.difference:.2e} (at most {self.limit:.2e}), top-1 agreement "
            f"{100 * self.top1_agreement:.1f} % of {self.answers} answers ({decided}), "
            f"{1000 * self.latency_s:.2f} ms per sample (the model: "
            f"{1000 * self.model_latency_s:.2f} ms){_changed(self.top1_agreement)}"
        )


def refusal(comparison, limits, precision):
    """The error message for an export outside its limits.

    Args:
        comparison: `Comparison` that did not pass.
        limits: its `Limits`.
        precision: str, the precision of the export.
    """
    judged, expected, received = comparison, "", ""
    if judged.decided:
        expected = (
            f", and the same top-1 on {100 * limits.agreement:.0f} % of the {judged.decided} "
            "decided answers"
        )
        received = f" and {100 * judged.decided_agreement:.0f} %"
    return (
        f"The outputs of the exported model differ from those of the model, in {precision}; "
        f"nothing was kept. Expected: a difference (root mean square) of at most "
        f"{judged.limit:.2e}, where outputs vary by {judged.spread:.2e} from sample to sample"
        f"{expected}. "
        f"Received: {judged.difference:.2e}{received}{_changed(judged.agreement)}"
    )


def _changed(agreement):
    if agreement == 1:
        return ""
    return (
        f". {max(1, round(100 * (1 - agreement)))} % of the answers differ: compare on photographs "
        "of your own (samples=..., or --samples of the command)"
    )


def size_of(path):
    """Size in bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
