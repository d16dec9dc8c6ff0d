"""Runs an export in its own runtime, in a process in which Keras cannot be imported.

    python -P runtimes.py FORMAT PATH SAMPLES.npz OUTPUTS.npz

SAMPLES.npz has one array per call, images or pixels (B, H, W, C); or arrays named "file0", ..., the
bytes of picture files, which are passed in one call. OUTPUTS.npz gets "CALL/NAME" for every output,
`runtime` (name and version), and `latency_s`, the median time of the last call, which has a single
sample.
"""

import os
import sys
import time
import warnings

import numpy as np


class Runtime:
    """A loaded export.

    Attributes:
        run: function from an input array to a dict of output arrays.
        name: str, name and version of the runtime.
        shape: tuple, shape of the input; None for a free axis.
        dtype: str, dtype of the input; "object" for bytes.
    """

    def __init__(self, run, name, shape, dtype):
        self.run, self.name = run, name
        self.shape = tuple(side if isinstance(side, int) and side > 0 else None for side in shape)
        self.dtype = dtype


def saved_model(path):
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures["serving_default"]
    ((name, spec),) = serve.structured_input_signature[1].items()

    def run(batch):
        return {key: x.numpy() for key, x in serve(**{name: tf.constant(batch)}).items()}

    dtype = np.dtype(spec.dtype.as_numpy_dtype).name
    return Runtime(run, f"tensorflow {tf.__version__}", spec.shape, dtype)


def onnx(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if hasattr(os, "sched_getaffinity"):  # it uses all cores, even those that are not allowed
        allowed = len(os.sched_getaffinity(0))
        if allowed < os.cpu_count():
            options.intra_op_num_threads = allowed
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (image,), names = session.get_inputs(), [x.name for x in session.get_outputs()]

    def run(batch):
        return dict(zip(names, session.run(names, {image.name: batch}), strict=True))

    dtype = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}[image.type]
    return Runtime(run, f"onnxruntime {onnxruntime.__version__}", image.shape, dtype)


def litert(path):
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path).get_signature_runner("serving_default")
    ((name, image),) = runner.get_input_details().items()

    def run(batch):
        return dict(runner(**{name: batch}))  # resizes the input if the batch size changes

    name_and_version = f"ai-edge-litert {version('ai-edge-litert')}"
    return Runtime(
        run, name_and_version, image["shape_signature"].tolist(), image["dtype"].__name__
    )


def openvino(path):
    import openvino as ov

    # By default it runs float32 models in bfloat16 on CPUs that support it.
    model = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (image,) = model.inputs

    def run(batch):
        outputs = model([batch])
        return {x.any_name: np.array(outputs[x]) for x in model.outputs}

    shape = [side.get_length() if side.is_static else None for side in image.partial_shape]
    dtype = np.dtype(image.element_type.to_dtype()).name
    return Runtime(run, f"openvino {ov.__version__.split('-')[0]}", shape, dtype)


def torch(path):
    import torch

    program = torch.export.load(path)
    model = program.module()

    def run(batch):
        with torch.inference_mode():
            return {k: x.numpy() for k, x in model(torch.from_numpy(batch)).items()}

    (name,) = program.graph_signature.user_inputs
    image = next(x for x in program.graph.nodes if x.name == name).meta["val"]
    dtype = str(image.dtype).removeprefix("torch.")
    return Runtime(run, f"torch {torch.__version__}", image.shape, dtype)


RUNTIMES = {x.__name__: x for x in (saved_model, onnx, litert, openvino, torch)}


def calls(samples):
    """The input array of each call."""
    files = [samples[name].tobytes() for name in samples if name.startswith("file")]
    arrays = [samples[name] for name in samples if not name.startswith("file")]
    return arrays + ([np.array(files, object), np.array(files[:1], object)] if files else [])


def median_seconds(function, seconds=1.0, rounds=30):
    """The median time of a call, in seconds.

    Args:
        function: function without arguments.
        seconds: float, time after which no more calls start; there are at least 3.
        rounds: int, maximal number of calls.
    """
    times = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main(format, path, samples, outputs):
    warnings.simplefilter("ignore")
    runtime = RUNTIMES[format](path)
    found = {}
    for i, batch in enumerate(calls(np.load(samples))):
        found.update({f"{i}/{name}": np.asarray(x) for name, x in runtime.run(batch).items()})
    latency = median_seconds(lambda: runtime.run(batch))
    np.savez(outputs, runtime=runtime.name, latency_s=latency, **found)


if __name__ == "__main__":
    for name in ("keras", "tf_keras", "keras_vit"):
        sys.modules[name] = None  # importing it raises an error now
    main(*sys.argv[1:])
