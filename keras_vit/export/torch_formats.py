"""ExportedProgram, and ONNX, which is converted from one. Runs on Keras's PyTorch."""

import contextlib
import io
import logging
import warnings

import numpy as np

from keras_vit.export.serving import serving_model


def write_torch(model, path, inputs, precision=None, calibration=None):
    """Writes the file `path`, for torch.export.load; batch and image sizes as in ONNX."""
    import torch

    with quietly():
        torch.export.save(_program(model, inputs)[0], path)


def write_onnx(model, path, inputs, precision=None, calibration=None):
    """Writes the file `path`.

    The batch size is free, and the image size where it is of `inputs` or the model. int8 is
    onnxruntime's own: of weights alone (in blocks of 32), of weights and, each time anew, activations, or
    of activations by the range that they had on `calibration` (N, H, W, C).
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


def _program(model, inputs):
    """The `torch.export.ExportedProgram` of the model as it is served, and that Keras model."""
    import torch

    served = serving_model(model, inputs)

    class Served(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = served

        def forward(self, images):
            return self.model(images, training=False)

    _, height, width, channels = served.input.shape
    # Unknown sides are multiples of the patch size, which keeps the exporter's algebra short.
    p, q = (1, 1) if inputs == "pixels" else model.patch_size
    sizes = {0: torch.export.Dim("batch")}
    if height is None:
        sizes[1] = p * torch.export.Dim("height", min=2)
        height = 8 * p
    if width is None:
        sizes[2] = q * torch.export.Dim("width", min=2)
        width = 12 * q
    dtype = torch.uint8 if inputs == "pixels" else torch.float32
    example = torch.zeros((2, height, width, channels), dtype=dtype)
    program = torch.export.export(Served().eval(), (example,), dynamic_shapes=(sizes,))
    return program, served


def _quantize_weights(path, calibration):
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(path), bits=8, block_size=32, is_symmetric=True)
    quantizer.process()
    quantizer.model.save_model_to_file(str(path), quantizer.model.model.ByteSize() > 2**31)


def _quantize_dynamic(path, calibration):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(path, path, weight_type=QuantType.QInt8, per_channel=True)


def _quantize_static(path, calibration):
    from onnxruntime.quantization import QuantType, quantize_static

    images = iter([{"images": x[None]} for x in calibration])

    class Reader:
        def get_next(self):
            return next(images, None)

    quantize_static(
        path, path, Reader(), per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )  # fmt: skip


QUANTIZED = {
    "int8_weights": _quantize_weights,
    "int8_dynamic": _quantize_dynamic,
    "int8_static": _quantize_static,
}


@contextlib.contextmanager
def quietly():
    """Without the exporters' talk of what is no problem here."""
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
