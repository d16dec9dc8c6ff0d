"""Shipping a model: write it, run what was written in its own runtime, compare, then say done."""

import contextlib
import json
import os
from pathlib import Path

import keras
import numpy as np

from keras_vit.export import runtimes
from keras_vit.export.formats import FORMATS, check_format, format_of
from keras_vit.export.report import ExportReport, compare, size_of
from keras_vit.export.runtimes import median_seconds
from keras_vit.export.samples import SAMPLES
from keras_vit.export.serving import output_names
from keras_vit.export.write import python, write
from keras_vit.hardware import accelerators
from keras_vit.preprocessing import load_image
from keras_vit.scratch import scratch_beside

# What a pixel that was rounded to its neighbour may change in a probability, or many of them.
PIXELS = 5e-3
# The largest difference allowed by default, relative to the largest output where that is above 1.
TOLERANCES = {
    "float32": 1e-4,
    "float16": 0.05,
    "bfloat16": 0.05,
    "int8_weights": 0.1,
    "int8_dynamic": 0.3,
    "int8_static": 0.3,
}


def export(
    model,
    path,
    format=None,
    inputs="images",
    precision=None,
    samples=None,
    calibration=None,
    tolerance=None,
):
    """Exports a model, runs the result in its own runtime and compares, from any backend.

    TensorFlow writes "saved_model", "litert" and "openvino", PyTorch "onnx" and "torch". From
    another backend the weights go over to it in a process of its own, so classes that are not part
    of Keras or this library cannot follow there. The batch size stays free, and so does the image
    size of a model built with `image_size=None`.

    Args:
        model: `keras.Model` on images.
        path: str or path that does not exist yet: a folder for "saved_model", else a file: .onnx,
            .tflite, .xml (OpenVINO, which puts a .bin beside it) or .pt2.
        format: "saved_model", "onnx", "litert", "openvino" or "torch"; by default what the suffix
            of `path` says.
        inputs: "images" for what the model takes; "pixels" for uint8 pictures (B, H, W, C) of any
            size, with the model's preprocessing and a softmax inside; "jpeg" for the bytes of
            picture files, (B,), in a SavedModel. The last two give probabilities and have the
            names of the classes in a file `*.labels.json` beside them, in a SavedModel
            `assets.extra/labels.json`.
        precision: None for the model's own; "float32", which a model of mixed precision can be
            too; "float16", "bfloat16", "int8_weights" (weights alone), "int8_dynamic" (activations
            too, quantised where they arise) or "int8_static" (by the range that they have on
            `calibration`); of these two ONNX has what takes "images" alone.
        samples: what to compare on: for "images" an array (N, H, W, C), else a list of pictures,
            as `keras_vit.preprocessing.load_image` takes them; by default noise. A model on a GPU,
            which may compute float32 in fewer bits (TF32), gives its outputs on the CPU for that.
        calibration: some dozens of what the export will see, for "int8_static": as `samples`.
        tolerance: float, largest difference allowed, relative to the largest output where that is
            above 1; by default 1e-4 (5e-3 of probabilities, where a pixel may have been rounded to
            its neighbour), 0.05 in 16 bits, 0.1 to 0.3 in int8.

    Returns:
        `ExportReport`.

    Raises:
        ValueError: for what a format does not have, a path that exists or cannot be written, a
            missing package, or outputs outside the tolerance; nothing that looks finished is left
            at `path` then.

    Example:
        >>> print(keras_vit.export(model, "vit.onnx", inputs="pixels"))
    """
    path = Path(path)
    format = format_of(path) if format is None else format
    check_format(format, inputs, precision, model.compute_dtype)
    _check_path(path, format, inputs)
    names = output_names(model, inputs)
    calibration = _check_calibration(calibration, model, inputs, precision)
    calls, outputs, once = SAMPLES[inputs](model, samples)

    with _scratch(path) as scratch:
        model.save(scratch / "model.keras")
        with _on_cpu(model, scratch / "model.keras") as source:
            expected = [
                dict(zip(names, keras.tree.flatten(y), strict=True)) for y in outputs(source)
            ]
        expected = {name: np.concatenate([y[name] for y in expected]) for name in names}
        model_latency = median_seconds(once)
        if calibration is not None:
            np.savez(scratch / "calibration.npz", *calibration)
        written = scratch / "written" / path.name
        written.parent.mkdir()
        write(scratch / "model.keras", written, format, inputs, precision)

        found = _run(written, format, calls, scratch)
        actual = {name: _joined(found, name) for name in names}
        difference, magnitude, agreement = compare(expected, actual)
        if tolerance is None:
            computed = model.compute_dtype, precision or model.compute_dtype
            tolerance = max(TOLERANCES[x] for x in computed)
            if inputs != "images":
                tolerance = max(tolerance, PIXELS)
        limit = tolerance * max(1.0, magnitude)
        if not difference <= limit:  # NaN is no agreement either
            raise ValueError(
                "The exported model does not give the model's outputs; nothing was kept. "
                f"Expected: a largest difference of {limit:.2e}. Received: {difference:.2e} "
                f"(top-1 agreement {100 * agreement:.1f} %)"
            )
        if inputs != "images":
            _write_labels(model, written)
        size = size_of(written.parent)
        _publish(written, path)
    return ExportReport(
        path=path,
        format=format,
        inputs=inputs,
        precision=precision,
        runtime=str(found["runtime"]),
        max_difference=difference,
        top1_agreement=agreement,
        size_bytes=size,
        latency_s=float(found["latency_s"]),
        model_latency_s=model_latency,
    )


def _check_path(path, format, inputs):
    suffix = FORMATS[format].suffix
    if suffix and path.suffix != suffix:
        raise ValueError(f"path must end in {suffix} for format={format!r}. Received: {path}")
    beside = [path.with_suffix(".bin")] if format == "openvino" else []
    beside += [_labels_path(path)] if suffix and inputs != "images" else []
    for file in (path, *beside):
        if file.exists():
            raise ValueError(
                f"path must not exist yet: choose another or remove it. Received: {file}"
            )


def _check_calibration(calibration, model, inputs, precision):
    if precision != "int8_static":
        if calibration is not None:
            raise ValueError(
                "calibration is for precision='int8_static', which alone has ranges to be found. "
                f"Received: precision={precision!r}"
            )
        return None
    if calibration is None or len(calibration) == 0:
        raise ValueError(
            "precision='int8_static' needs calibration=..., some dozens of what the export will "
            f"see. Received: {calibration}"
        )
    if inputs == "pixels":
        return [load_image(x) for x in calibration]
    x, expected = np.asarray(calibration, model.input.dtype), model.input.shape
    if x.ndim != 4 or any(
        a not in (None, b) for a, b in zip(expected[1:], x.shape[1:], strict=True)
    ):
        raise ValueError(f"calibration must have the shape {expected}. Received: shape={x.shape}")
    return x


@contextlib.contextmanager
def _scratch(path):
    """A folder beside `path`, or an error that says why there is none."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_beside(path))
        except OSError as error:
            raise ValueError(
                f"path must lie in a folder that can be written. Received: {path}: {error}"
            ) from error
        yield folder


@contextlib.contextmanager
def _on_cpu(model, file):
    """The model, or the copy in its `file` if there is an accelerator, computing on the CPU."""
    if not accelerators():
        yield model
        return
    with keras.device("cpu"):
        yield keras.models.load_model(file, compile=False)


def _run(written, format, calls, scratch):
    """What the export gives for `calls`, in a process with its own runtime."""
    np.savez(scratch / "samples.npz", **calls)
    files = written, scratch / "samples.npz", scratch / "outputs.npz"
    python("-P", runtimes.__file__, format, *files, doing=f"run {format}")
    return np.load(scratch / "outputs.npz")


def _joined(found, name):
    """All calls' output of that name, or None."""
    calls = sorted((x for x in found if x.endswith(f"/{name}")), key=lambda x: int(x.split("/")[0]))
    return np.concatenate([found[x] for x in calls]).astype("float32") if calls else None


def _labels_path(path):
    return path.with_suffix(".labels.json")


def _write_labels(model, written):
    if model.class_names:
        file = (
            written / "assets.extra" / "labels.json" if written.is_dir() else _labels_path(written)
        )
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(list(model.class_names), indent=0), encoding="utf-8")


def _publish(written, path):
    """Moves what was written to its place, what `path` needs beside it first."""
    for file in written.parent.iterdir():
        if file != written:
            os.replace(file, path.parent / file.name)
    os.replace(written, path)
