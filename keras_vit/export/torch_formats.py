"""Writes PyTorch's ExportedProgram and ONNX, on Keras's PyTorch backend."""

import contextlib
import io
import logging
import math
import warnings

from keras_vit.export.serving import serving_model
from keras_vit.fast_paths import without_fast_paths
from keras_vit.models.hybrid import HybridVisionTransformer
from keras_vit.models.swin import SwinTransformer


def write_torch(model, path, inputs, precision=None, calibration=None):
    """Writes an ExportedProgram to the file `path`, for `torch.export.load`.

    The batch size is free, and so is the image size if it is free in `inputs` or the model.
    `precision` and `calibration` are ignored: the model already has its precision.
    """
    import torch

    with quietly():
        torch.export.save(_program(model, inputs)[0], path)


def write_onnx(model, path, inputs, precision=None, calibration=None):
    """Writes an ONNX model to the file `path`.

    The batch size is free, and so is the image size if it is free in `inputs` or the model.
    onnxruntime quantises for "int8_dynamic", and NNCF for "int8_weights" and "int8_static", where
    it was closer to the model than onnxruntime's static quantisation.
    """
    import torch

    with quietly():
        program, served = _program(model, inputs)
        names = [*served.output]
        exported = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=["images"], output_names=names
        )
        exported.save(path)
        if precision in QUANTIZED:
            QUANTIZED[precision](path, calibration)
            _check_quantized(path, precision)


def _program(model, inputs):
    """(`torch.export.ExportedProgram`, serving Keras model) of a model."""
    import torch

    served = serving_model(model, inputs)

    class Served(torch.nn.Module):
        # The model must not be an attribute, or the weights would be stored twice: as unused
        # parameters of the module, and as the tensors that Keras uses.
        def forward(self, images):
            return served(images, training=False)

    _, height, width, channels = served.input.shape
    if inputs == "images" and None in (height, width):
        _check_any_size(model)
    sizes = {0: torch.export.Dim("batch")}
    # Free sides are declared as multiples of the patch size, which simplifies the symbolic shapes.
    p, q = (1, 1) if inputs == "pixels" else getattr(model, "patch_size", (1, 1))
    if height is None:
        sizes[1], height = p * torch.export.Dim("height", min=2), 8 * p
    if width is None:
        sizes[2], width = q * torch.export.Dim("width", min=2), 12 * q
    dtype = getattr(torch, served.input.dtype)
    example = torch.zeros((2, height, width, channels), dtype=dtype)
    # With Keras's own operators: what runs and quantises the exported file knows their patterns.
    with without_fast_paths():
        program = torch.export.export(Served().eval(), (example,), dynamic_shapes=(sizes,))
    return program, served


def _check_any_size(model):
    """Raises a `ValueError` for a model that PyTorch cannot export for any size, or only slowly."""
    what = None
    if isinstance(model, SwinTransformer):
        what = "the padding and shift of windows"
    elif isinstance(model, HybridVisionTransformer) and model.get_config()["stem"] is not None:
        what = "the padding of the CNN given as stem"
    if what is not None:
        raise ValueError(
            f"PyTorch's exporter cannot trace {what} for any image size: give the model a fixed "
            "size with keras_vit.resize(model, image_size=...). "
            f"Received: {type(model).__name__} with image_size=None"
        )


def _quantize_weights(path, calibration):
    import nncf
    import onnx

    mode = nncf.CompressWeightsMode.INT8_SYM
    compressed = nncf.compress_weights(onnx.load(path), mode=mode)
    # NNCF 3.4 gives the scales of a convolution's kernel (32, 1, 3, 3) the shape (32, 1, 1), which
    # onnxruntime refuses: they are those of its first axis, (32,).
    constants = {x.name: x for x in compressed.graph.initializer}
    for node in compressed.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            kernel, *scales = (constants[name] for name in node.input if name in constants)
            for scale in scales:
                if 1 < len(scale.dims) < len(kernel.dims):
                    scale.dims[:] = [math.prod(scale.dims)]
    onnx.save(compressed, path)


def _quantize_dynamic(path, calibration):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(path, path, weight_type=QuantType.QInt8, per_channel=True)


def _quantize_static(path, calibration):
    import nncf
    import onnx

    model = onnx.load(path)
    images = nncf.Dataset([{"images": x[None]} for x in calibration])
    # If the kernel is the first operand, as in CaiT's talking heads, the bias correction of
    # NNCF 3.4 fails with "list index out of range".
    constants = {x.name for x in model.graph.initializer}
    kernel_first = any(x.op_type == "MatMul" and x.input[0] in constants for x in model.graph.node)
    quantized = nncf.quantize(
        model,
        images,
        model_type=nncf.ModelType.TRANSFORMER,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            disable_bias_correction=kernel_first
        ),
    )
    onnx.save(quantized, path)


def _check_quantized(path, precision):
    """Raises a `ValueError` if nothing was quantised, about which the quantiser says nothing."""
    import onnx

    kinds = {node.op_type for node in onnx.load(path).graph.node}
    if not kinds & {"DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"}:
        raise ValueError(
            f"precision={precision!r} quantised nothing in this model; use another precision. "
            f"Received: a graph of {', '.join(sorted(kinds))}"
        )


QUANTIZED = {
    "int8_weights": _quantize_weights,
    "int8_dynamic": _quantize_dynamic,
    "int8_static": _quantize_static,
}


@contextlib.contextmanager
def quietly():
    """Context manager that silences messages of the exporters."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        logging.disable(logging.NOTSET)
