"""The export formats: what each needs, and what it does not support."""

import importlib.util
from typing import NamedTuple

from keras_vit.layers.validation import check_choice


class Format(NamedTuple):
    """An export format.

    Attributes:
        suffix: str, suffix of the file; "" for a folder.
        backend: str, the Keras backend that writes it.
        packages: tuple of str, names of the modules that writing and running import.
        extra: str, the extra of this package that installs them:
            pip install 'keras-vision-transformers[EXTRA]'.
        own: dict of the precisions that tools of the format apply, to the module of the tool, or
            None if it is one of `packages`. Other precisions are applied to the Keras model.
        lacks: dict of unsupported inputs and precisions to the reason, as the rest of a sentence
            that starts with the name of the format.
    """

    suffix: str
    backend: str
    packages: tuple
    extra: str
    own: dict
    lacks: dict


NO_JPEG = "decodes no JPEG: send pixels, inputs='pixels'"
NO_PIXELS = "quantises activations with inputs='images' only"  # others: 30 % top-1, or none works
NO_CALIBRATION = "is quantised without calibration: precision='int8_dynamic'"

FORMATS = {
    "saved_model": Format(
        suffix="",
        backend="tensorflow",
        packages=("tensorflow",),
        extra="tensorflow",
        own={},
        lacks={"int8_static": NO_CALIBRATION},
    ),
    "onnx": Format(
        suffix=".onnx",
        backend="torch",
        packages=("torch", "onnx", "onnxruntime", "onnxscript"),
        extra="onnx",
        own={"int8_weights": "nncf", "int8_dynamic": None, "int8_static": "nncf"},
        lacks={
            "jpeg": NO_JPEG,
            "int8_dynamic of pixels": NO_PIXELS,
            "int8_static of pixels": NO_PIXELS,
            "bfloat16": "has no bfloat16 in onnxruntime on CPUs: precision='float32' or 'float16'",
        },
    ),
    "litert": Format(
        suffix=".tflite",
        backend="tensorflow",
        packages=("tensorflow", "ai_edge_litert"),
        extra="litert",
        own={"float16": None, "int8_dynamic": None, "int8_static": "ai_edge_quantizer"},
        lacks={
            "jpeg": NO_JPEG,
            "bfloat16": "has no bfloat16: precision='float32' or 'float16'",
            "int8_weights": "computes with int8 weights in int8: precision='int8_dynamic'",
        },
    ),
    "openvino": Format(
        suffix=".xml",
        backend="tensorflow",
        packages=("tensorflow", "openvino"),
        extra="openvino",
        own={"float16": None, "int8_weights": "nncf", "int8_static": "nncf"},
        lacks={
            "jpeg": NO_JPEG,
            "bfloat16": "chooses bfloat16 when it runs (INFERENCE_PRECISION_HINT), not in the "
            "file: precision='float32'",
            "int8_dynamic": "quantises activations when it runs: precision='int8_weights'",
        },
    ),
    "torch": Format(
        suffix=".pt2",
        backend="torch",
        packages=("torch",),
        extra="torch",
        own={},
        lacks={"jpeg": NO_JPEG, "int8_static": NO_CALIBRATION},
    ),
}

INPUTS = ("images", "pixels", "jpeg")
PRECISIONS = ("float32", "float16", "bfloat16", "int8_weights", "int8_dynamic", "int8_static")


def format_of(path):
    """The format for the suffix of a path; without a suffix it is "saved_model".

    Raises:
        ValueError: if no format has this suffix.
    """
    for name, format in FORMATS.items():
        if path.suffix == format.suffix:
            return name
    suffixes = ", ".join(x.suffix for x in FORMATS.values() if x.suffix)
    raise ValueError(
        f"path must end in {suffixes}, or have no suffix for the folder of a SavedModel; or pass "
        f"format=.... Received: {path}"
    )


def check_format(format, inputs, precision, compute_dtype):
    """Checks that a format supports the inputs and the precision, and its packages are installed.

    Args:
        format, inputs, precision: arguments of `keras_vit.export`.
        compute_dtype: str, dtype of the model, in which the export computes without a precision.

    Raises:
        ValueError: if an argument is unknown or not supported, or a package is missing.
    """
    check_choice(format, "format", tuple(FORMATS))
    check_choice(inputs, "inputs", INPUTS)
    check_choice(precision, "precision", (None, *PRECISIONS))
    for what in (inputs, precision or compute_dtype, f"{precision} of {inputs}"):
        if what in FORMATS[format].lacks:
            raise ValueError(
                f"{format} {FORMATS[format].lacks[what]}. Received: format={format!r}, "
                f"inputs={inputs!r}, precision={precision!r}, compute_dtype={compute_dtype!r}"
            )
    packages = [*FORMATS[format].packages, FORMATS[format].own.get(precision)]
    missing = [x for x in packages if x and importlib.util.find_spec(x) is None]
    if missing:
        raise ValueError(
            f"The format {format!r} needs {', '.join(filter(None, packages))} for precision="
            f"{precision!r}, with any Keras backend: "
            f"pip install 'keras-vision-transformers[{FORMATS[format].extra}]'. "
            f"Received: no module named {', '.join(missing)}"
        )
