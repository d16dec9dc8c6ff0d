"""Shipping a model: write it, run what was written in its own runtime, compare, then say done."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np

from keras_vit.export import runtimes
from keras_vit.export.compare import compare, limits_of
from keras_vit.export.formats import FORMATS, check_format, format_of
from keras_vit.export.report import ExportReport, refusal, size_of
from keras_vit.export.runtimes import median_seconds
from keras_vit.export.samples import FEW, SAMPLES
from keras_vit.export.serving import in_float32, output_names
from keras_vit.export.write import python, write
from keras_vit.hardware import accelerators
from keras_vit.preprocessing import load_image
from keras_vit.scratch import scratch_beside


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

    It is compared with the model computing in float32.

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
            as `keras_vit.preprocessing.load_image` takes them; by default noise of many kinds, and
            for "int8_static" `calibration`, which also join fewer than eight. A model on a GPU,
            which may compute float32 in fewer bits (TF32), gives its outputs on the CPU for that.
        calibration: some dozens of what the export will see, for "int8_static": as `samples`.
        tolerance: float, difference allowed (root mean square), relative to what the model's
            outputs vary by from sample to sample; probabilities are compared as logits. By default
            1e-3 in float32 (5e-3 with preprocessing, where a pixel may be rounded to its
            neighbour), 0.02 in float16, 0.15 in bfloat16, 0.2 to 0.25 in int8, and 0.6 to 0.8
            where ONNX and OpenVINO give activations 8 bits. Whatever it is, an export in float32 is
            written and judged first, which takes as long again.

    Returns:
        `ExportReport`.

    Raises:
        ValueError: for what a format does not have, a path that exists or cannot be written, a
            missing package, outputs outside the tolerance, or other answers where the model is
            decided; nothing that looks finished is left at `path` then.

    Example:
        >>> print(keras_vit.export(model, "vit.onnx", inputs="pixels"))
    """
    path = Path(path)
    format = format_of(path) if format is None else format
    check_format(format, inputs, precision, model.compute_dtype)
    _check_path(path, format, inputs)
    names = output_names(model, inputs)
    calibration = _check_calibration(calibration, model, inputs, precision)
    samples = _with_calibration(samples, calibration)
    calls, outputs, once = SAMPLES[inputs](model, samples)

    computed = precision or model.compute_dtype
    with _scratch(path) as scratch:
        model.save(scratch / "model.keras")
        with _on_cpu(model, scratch / "model.keras") as source:
            whole = in_float32(source)
            expected = [
                dict(zip(names, keras.tree.flatten(y), strict=True)) for y in outputs(whole)
            ]
        expected = {name: np.concatenate([y[name] for y in expected]) for name in names}
        model_latency = median_seconds(once)
        if calibration is not None:
            np.savez(scratch / "calibration.npz", *calibration)
        # What goes wrong in writing shows in float32, where no rounding hides it.
        steps = ["float32", computed] if whole.compute_dtype == "float32" else [computed]
        for step in dict.fromkeys(steps):
            last = step == computed
            written = scratch / step / path.name
            written.parent.mkdir()
            write(scratch / "model.keras", written, format, inputs, precision if last else step)
            found = _run(written, format, calls, scratch)
            actual = {name: _joined(found, name) for name in names}
            limits = limits_of(step, inputs, format)
            if last and tolerance is not None:
                limits = limits._replace(difference=tolerance)
            judged = compare(expected, actual, limits)
            if not judged.passed:
                raise ValueError(refusal(judged, limits, step))
            if not last:
                shutil.rmtree(written.parent)
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
        max_difference=max(float(np.abs(expected[x] - actual[x]).max()) for x in names),
        top1_agreement=judged.agreement,
        size_bytes=size,
        latency_s=float(found["latency_s"]),
        model_latency_s=model_latency,
        difference=judged.difference,
        limit=judged.limit,
        spread=judged.spread,
        answers=judged.answers,
        decided=judged.decided,
        decided_agreement=judged.decided_agreement,
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


def _with_calibration(samples, calibration):
    """What to compare on: noise would lie beyond the ranges that were found on photographs."""
    if calibration is None or isinstance(samples, (str, bytes)):
        return samples
    given = [] if samples is None else list(samples)
    if len(given) >= FEW or given and np.shape(given[0]) != np.shape(calibration[0]):
        return samples
    return [*given, *calibration]


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
