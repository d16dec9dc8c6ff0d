"""Latency of a shipped model: every format beside the Keras model and timm's ONNX of the network.

    taskset -c 0 python -m benchmarks.shipped_speed
    taskset -c 0 python -m benchmarks.shipped_speed --model ViTTiny --rounds 3    # quick

Everybody gets the same images in NumPy arrays and hands logits back as such. Each is a process of
its own, and they take turns; of each the median of the rounds counts.
"""

import argparse
import runpy
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.common import (
    BACKENDS,
    ROOT,
    Worker,
    command_or_worker,
    hardware_name,
    installed,
    load_average,
    print_rows,
    results_path,
    timed,
    versions,
    write_rows,
)

TIMM = {"ViTTiny": "vit_tiny_patch16_224", "ViTSmall": "vit_small_patch16_224"}
# Name to format, precision, backend of the writer and the package that runs it.
EXPORTS = {
    "SavedModel": ("saved_model", None, "tensorflow"),
    "ONNX": ("onnx", None, "onnxruntime"),
    "ONNX, int8_dynamic": ("onnx", "int8_dynamic", "onnxruntime"),
    "LiteRT": ("litert", None, "ai-edge-litert"),
    "LiteRT, int8_dynamic": ("litert", "int8_dynamic", "ai-edge-litert"),
    "OpenVINO": ("openvino", None, "openvino"),
    "OpenVINO, int8_weights": ("openvino", "int8_weights", "openvino"),
    "ExportedProgram": ("torch", None, "torch"),
}
REFERENCE = "timm, ONNX"
KEY = ("model", "batch", "contestant")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViTSmall", choices=list(TIMM))
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--least", type=float, default=1.0, help="seconds of a turn, at least")
    parser.add_argument("--out", help="file for the results")
    arguments = parser.parse_args()
    path = results_path("shipped_speed", arguments.out)
    with tempfile.TemporaryDirectory() as folder:
        setting = {"model": arguments.model, "folder": folder}
        writer = Worker("benchmarks.shipped_speed", {"role": "writer", **setting}, "tensorflow")
        sizes = {name: writer.ask(name=name)["mib"] for name in EXPORTS}
        sizes["keras_vit"] = writer.ask(name="keras_vit")["mib"]
        writer.close()
        contestants = {}
        if installed("timm"):
            other = Worker("benchmarks.shipped_speed", {"role": "timm", **setting}, "torch")
            sizes[REFERENCE] = other.ask()["mib"]
            other.close()
            contestants[REFERENCE] = ("timm", "onnxruntime")
        contestants |= {f"Keras, {x}": (x, x) for x in BACKENDS}
        contestants |= {name: ("export", package) for name, (*_, package) in EXPORTS.items()}
        workers = {}
        for name, (role, _) in contestants.items():
            backend = role if role in BACKENDS else "tensorflow"
            start = {"role": "runner", "name": name, **setting}
            workers[name] = Worker("benchmarks.shipped_speed", start, backend)
        for batch in arguments.batch:
            rows = _turns(workers, contestants, batch, sizes, arguments)
            write_rows(path, rows, KEY)
            print_rows(rows, ["contestant", "batch", "wall_s", "cpu_s", "mib", "load"])
        for worker in workers.values():
            worker.close()


def _turns(workers, contestants, batch, sizes, arguments):
    for worker in workers.values():
        worker.ask(batch=batch, least=0)
        worker.ask(batch=batch, least=0)
    figures = {name: [] for name in workers}
    for _ in range(arguments.rounds):
        for name, worker in workers.items():
            time.sleep(0.2)  # the others' idle threads go to sleep
            figures[name].append(worker.ask(batch=batch, least=arguments.least))
    return [
        {
            "hardware": hardware_name(),
            "model": arguments.model,
            "batch": batch,
            "contestant": name,
            "wall_s": statistics.median(x["wall_s"] for x in figures[name]),
            "cpu_s": statistics.median(x["cpu_s"] for x in figures[name]),
            "mib": sizes["keras_vit" if name.startswith("Keras") else name],
            "rounds": arguments.rounds,
            "load": load_average(),
            "versions": versions(contestants[name][1]),
        }
        for name in workers
    ]


def start(role, model, folder, name=None):
    """A process that writes, or one that runs what was written."""
    folder = Path(folder)
    if role == "runner":
        return _runner(model, folder, name)
    return _write_timm(model, folder) if role == "timm" else _writer(model, folder)


def _writer(model, folder):
    import numpy as np

    import keras_vit
    from keras_vit.export.formats import FORMATS

    built = getattr(keras_vit, model)()
    rng = np.random.default_rng(0)
    built.get_layer("head").set_weights(
        [rng.normal(0, 0.02, w.shape) for w in built.get_layer("head").weights]
    )

    def answer(name):
        if name == "keras_vit":
            built.save(folder / "model.keras")
            return {"mib": (folder / "model.keras").stat().st_size / 2**20}
        format, precision, _ = EXPORTS[name]
        path = folder / name / f"model{FORMATS[format].suffix}"
        report = keras_vit.export(built, path, precision=precision)
        return {"mib": report.size_bytes / 2**20}

    return answer


def _write_timm(model, folder):
    import timm
    import torch

    network = timm.create_model(TIMM[model], pretrained=False).eval()
    path = folder / REFERENCE / "model.onnx"
    path.parent.mkdir()
    dynamic = {"x": {0: torch.export.Dim("batch")}}
    exported = torch.onnx.export(
        network, (torch.zeros(2, 3, 224, 224),), dynamo=True, dynamic_shapes=dynamic, verbose=False
    )
    exported.save(path)
    return lambda: {"mib": path.stat().st_size / 2**20}


def _runner(model, folder, name):
    import numpy as np

    if name.startswith("Keras"):
        import keras

        import keras_vit  # noqa: F401  its classes must be known to Keras

        run = keras.models.load_model(folder / "model.keras", compile=False).predict_on_batch
    else:
        # By its path, as `export` itself runs it: importing keras_vit brings TensorFlow along, and
        # the runtimes have been seen to crash beside it.
        runtimes = runpy.run_path(str(ROOT / "keras_vit" / "export" / "runtimes.py"))["RUNTIMES"]
        format = "onnx" if name == REFERENCE else EXPORTS[name][0]
        (path,) = (x for x in (folder / name).iterdir() if x.suffix not in (".bin", ".data"))
        run = runtimes[format](str(path)).run
    shape = (3, 224, 224) if name == REFERENCE else (224, 224, 3)
    noise = np.random.default_rng(0)

    def answer(batch, least):
        images = noise.uniform(-1, 1, (batch, *shape)).astype("float32")
        wall, cpu = timed(lambda: run(images), least)
        return {"wall_s": wall, "cpu_s": cpu}

    return answer


if __name__ == "__main__":
    command_or_worker(main, start)
