"""Runs an export in its own runtime, in a process that cannot even import Keras.

    python -P runtimes.py FORMAT PATH SAMPLES.npz OUTPUTS.npz

SAMPLES.npz holds arrays, each one call: images or pixels (B, H, W, C), or the names "file0", ... of
files' bytes, which make one call together. OUTPUTS.npz gets "CALL/NAME" for every output, the
`runtime` and its version, and `latency_s`: the median of the last call, for which one sample is
left.
"""

import sys
import time
import warnings

import numpy as np


def saved_model(path):
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]

    def run(batch):
        return {key: x.numpy() for key, x in serve(**{name: tf.constant(batch)}).items()}

    return run, f"tensorflow {tf.__version__}"


def onnx(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (image,), names = session.get_inputs(), [x.name for x in session.get_outputs()]

    def run(batch):
        return dict(zip(names, session.run(names, {image.name: batch}), strict=True))

    return run, f"onnxruntime {onnxruntime.__version__}"


def litert(path):
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    runner = interpreter.get_signature_runner("serving_default")
    ((name, _),) = runner.get_input_details().items()

    def run(batch):
        return dict(runner(**{name: batch}))  # which resizes the input where the batch changes

    return run, f"ai-edge-litert {version('ai-edge-litert')}"


def openvino(path):
    import openvino as ov

    # Left alone it computes float32 models in bfloat16 on CPUs that are faster with it.
    model = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(batch):
        outputs = model([batch])
        return {x.any_name: np.array(outputs[x]) for x in model.outputs}

    return run, f"openvino {ov.__version__.split('-')[0]}"


def torch(path):
    import torch

    model = torch.export.load(path).module()

    def run(batch):
        with torch.inference_mode():
            return {k: x.numpy() for k, x in model(torch.from_numpy(batch)).items()}

    return run, f"torch {torch.__version__}"


RUNTIMES = {x.__name__: x for x in (saved_model, onnx, litert, openvino, torch)}


def calls(samples):
    """The arrays to hand over, one a call."""
    files = [samples[name].tobytes() for name in samples if name.startswith("file")]
    arrays = [samples[name] for name in samples if not name.startswith("file")]
    return arrays + ([np.array(files, object), np.array(files[:1], object)] if files else [])


def median_seconds(function, seconds=1.0, rounds=30):
    """The median of up to `rounds` calls, and not many more seconds than `seconds`."""
    times = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main(format, path, samples, outputs):
    warnings.simplefilter("ignore")
    run, runtime = RUNTIMES[format](path)
    found = {}
    for i, batch in enumerate(calls(np.load(samples))):
        found.update({f"{i}/{name}": np.asarray(x) for name, x in run(batch).items()})
    latency = median_seconds(lambda: run(batch))
    np.savez(outputs, runtime=runtime, latency_s=latency, **found)


if __name__ == "__main__":
    for name in ("keras", "tf_keras", "keras_vit"):
        sys.modules[name] = None  # to import it is an error now
    main(*sys.argv[1:])
