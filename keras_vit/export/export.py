"""`export`: writes a model, runs the result in its own runtime, and compares the outputs."""

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
from keras_vit.export.samples import FEW, samples_of
from keras_vit.export.serving import finds_objects, in_float32, output_names, slides
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
    """Exports a model, runs the export in its own runtime, and compares it with the model.

    It works from any backend. "saved_model", "litert" and "openvino" are written by TensorFlow,
    "onnx" and "torch" by PyTorch; with another backend they are written in a separate process,
    which imports the modules that register the classes of the model. Classes that are defined in
    `__main__` cannot be imported there. The batch size is free, and so is the image size of a model
    built with `image_size=None`.

    A model for segmentation is exported without auxiliary heads. With `inputs="pixels"`, for a
    SavedModel only, it slides windows over pictures as `model.segment` does by default, and outputs
    "classes", int32 (B, H, W).

    A model for detection is exported without query groups and denoising. With `inputs="pixels"`,
    for a SavedModel only, it outputs all queries, in their order: "boxes", float32 (B, Q, 4), x0,
    y0, x1, y1 in pixels of the pictures, "scores", float32 (B, Q), and "labels", int32 (B, Q).

    The export is compared with the model in float32.

    Args:
        model: `keras.Model` on images.
        path: str or path that does not exist yet: a folder for "saved_model", or a file with the
            suffix .onnx, .tflite, .xml (OpenVINO, with a .bin beside it) or .pt2.
        format: "saved_model", "onnx", "litert", "openvino" or "torch"; by default from the suffix
            of `path`.
        inputs: "images" for the model's input; "pixels" for uint8 pictures (B, H, W, C) of any
            size, with preprocessing and softmax in the export; "jpeg" for the bytes of picture
            files, (B,), for a SavedModel only. With the last two the export outputs probabilities,
            and the class names are written to a file `*.labels.json` beside it, or in a SavedModel
            to `assets.extra/labels.json`.
        precision: None for the precision of the model; "float32" (for a model in mixed precision
            too), "float16" or "bfloat16"; "int8_weights" (weights only), "int8_dynamic"
            (activations too, quantised at run time) or "int8_static" (activations with the ranges
            found on `calibration`). The last two need `inputs="images"` in ONNX.
        samples: inputs to compare on: an array (N, H, W, C) for `inputs="images"`, otherwise a list
            of pictures as in `keras_vit.preprocessing.load_image`. By default noise of various
            kinds, or `calibration` for "int8_static"; fewer than eight samples are extended by
            these. A model on a GPU, which may use TF32, is run on the CPU for the comparison.
        calibration: a few dozen representative inputs, for "int8_static", in the format of
            `samples`.
        tolerance: float, largest root mean square difference, relative to the standard deviation of
            the model's outputs over the samples. Probabilities are compared as logits. By default
            1e-3 in float32 (1e-2 with preprocessing, where a pixel may be rounded to its
            neighbour), 0.02 in float16, 0.15 in bfloat16, 0.2 to 0.25 in int8, and 0.6 to 0.8 for
            int8 activations in ONNX and OpenVINO. In any case an export in float32 is written and
            compared first, which doubles the time.

    Returns:
        `ExportReport`.

    Raises:
        ValueError: if the format does not support the arguments, a package is missing, the path
            exists or cannot be written, the difference exceeds the tolerance, or decided top-1
            answers differ. `path` does not exist then.

    Example:
        >>> print(keras_vit.export(model, "vit.onnx", inputs="pixels"))
    """
    path = Path(path)
    format = format_of(path) if format is None else format
    check_format(format, inputs, precision, model.compute_dtype)
    _check_path(path, format, inputs)
    if slides(model, inputs) and format != "saved_model":
        raise ValueError(
            "The sliding window of a model for segmentation can be exported in a SavedModel only: "
            f"pass inputs='images' for the model of one window. Received: {format=}, {inputs=}"
        )
    if finds_objects(model, inputs) and format != "saved_model":
        raise ValueError(
            "A detector from pictures of any size to boxes can be exported in a SavedModel only: "
            "pass inputs='images' for logits and boxes of images that are already resized. "
            f"Received: {format=}, {inputs=}"
        )
    names = output_names(model, inputs)
    calibration = _check_calibration(calibration, model, inputs, precision)
    samples = _with_calibration(samples, calibration)
    calls, outputs, once = samples_of(model, inputs, samples)

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
        # First in float32, where no rounding hides an error of the export.
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
                f"path must not exist yet: choose another, or remove it. Received: {file}"
            )


def _check_calibration(calibration, model, inputs, precision):
    if precision != "int8_static":
        if calibration is not None:
            raise ValueError(
                "calibration is for precision='int8_static' only: leave it out. "
                f"Received: precision={precision!r}"
            )
        return None
    if calibration is None or len(calibration) == 0:
        raise ValueError(
            "precision='int8_static' needs calibration=..., a few dozen representative inputs. "
            f"Received: calibration={calibration}"
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
    """The samples, extended by the calibration data if they are few.

    Noise would be outside the ranges that were found on the calibration data.
    """
    if calibration is None or isinstance(samples, (str, bytes)):
        return samples
    given = [] if samples is None else list(samples)
    if len(given) >= FEW or given and np.shape(given[0]) != np.shape(calibration[0]):
        return samples
    return [*given, *calibration]


@contextlib.contextmanager
def _scratch(path):
    """Context manager with a scratch folder beside `path`; raises a `ValueError` without one."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_beside(path))
        except OSError as error:
            raise ValueError(
                f"path must be in a folder that can be written. Received: {path}: {error}"
            ) from error
        yield folder


@contextlib.contextmanager
def _on_cpu(model, file):
    """Context manager with the model on the CPU; with an accelerator, the copy in its `file`."""
    if not accelerators():
        yield model
        return
    with keras.device("cpu"):
        yield keras.models.load_model(file, compile=False)


def _run(written, format, calls, scratch):
    """Runs the export on `calls` in a separate process, and returns the outputs."""
    np.savez(scratch / "samples.npz", **calls)
    files = written, scratch / "samples.npz", scratch / "outputs.npz"
    python("-P", runtimes.__file__, format, *files, doing=f"run {format}")
    return np.load(scratch / "outputs.npz")


def _joined(found, name):
    """The outputs of this name of all calls, concatenated, or None."""
    calls = sorted((x for x in found if x.endswith(f"/{name}")), key=lambda x: int(x.split("/")[0]))
    arrays = [found[x].reshape(-1) if name == "classes" else found[x] for x in calls]
    return np.concatenate(arrays).astype("float32") if calls else None


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
    """Moves an export to `path`; files that belong beside it are moved first."""
    for file in written.parent.iterdir():
        if file != written:
            os.replace(file, path.parent / file.name)
    os.replace(written, path)
