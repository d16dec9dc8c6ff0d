"""What can be exported: every format, from a model of each family, on every backend.

    python -m benchmarks.exports                       # all of it, 105 exports and more
    python -m benchmarks.exports --backend torch --family Swin --format onnx

The variants have their real width but little depth, at 96 pixels, and weights that are noise, so
that no output is near zero. A row tells how far the export was from its model where it ran, or why
there is none.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

from benchmarks.common import (
    BACKENDS,
    Worker,
    command_or_worker,
    hardware_name,
    load_average,
    print_rows,
    results_path,
    versions,
    write_rows,
)

FAMILIES = {
    "ViT": ("ViTTiny", {"depth": 2}),
    "DeiT": ("DeiTTiny", {"depth": 2}),
    "Swin": ("SwinTiny", {"depths": (2, 2), "num_heads": (3, 6)}),
    "PVT": ("PVTTiny", {"depths": (1, 1, 1, 1)}),
    "PVTv2": ("PVTv2B0", {"depths": (1, 1, 1, 1)}),
    "Hybrid": ("RViTTiny16", {"depth": 2}),
    "CaiT": ("CaiTXXSmall24", {"depth": 2}),
}
IMAGE_SIZE = 96
ANY_SIZE = ("ViT", "Swin", "PVTv2", "Hybrid")  # for these image_size=None too
FORMATS = {
    "saved_model": "tensorflow",
    "onnx": "onnxruntime",
    "litert": "ai-edge-litert",
    "openvino": "openvino",
    "torch": "torch",
}
KEY = ("family", "image_size", "format", "backend")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", nargs="*", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--family", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--format", nargs="*", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--out", help="file for the results")
    arguments = parser.parse_args()
    path = results_path("exports", arguments.out)
    for backend, family in itertools.product(arguments.backend, arguments.family):
        variant, small = FAMILIES[family]
        for size in (IMAGE_SIZE, None) if family in ANY_SIZE else (IMAGE_SIZE,):
            setting = {"variant": variant, "arguments": {**small, "image_size": size}}
            worker = Worker("benchmarks.exports", setting, backend)
            rows = []
            for format in arguments.format:
                start = time.perf_counter()
                found = worker.ask(format=format)
                rows.append(
                    {
                        "hardware": hardware_name(),
                        "family": family,
                        "variant": variant,
                        "image_size": size or "any",
                        "format": format,
                        "backend": backend,
                        **found,
                        "seconds": time.perf_counter() - start,
                        "load": load_average(),
                        "versions": versions("keras", backend, FORMATS[format]),
                    }
                )
            worker.close()
            write_rows(path, rows, KEY)
            print_rows(rows, ["backend", "variant", "image_size", "format", "difference", "reason"])


def start(variant, arguments):
    """Exports one model, wherever it is asked to."""
    import keras
    import numpy as np

    import keras_vit
    from keras_vit.export.formats import FORMATS as KNOWN

    keras.utils.set_random_seed(0)
    model = getattr(keras_vit, variant)(**arguments)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "seed" not in weight.path:
            value = keras.ops.convert_to_numpy(weight)
            weight.assign(value + rng.normal(0, 0.02, weight.shape))
    images = rng.uniform(-1, 1, (4, IMAGE_SIZE, IMAGE_SIZE, 3)).astype("float32")

    def answer(format):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"model{KNOWN[format].suffix}")
            try:
                report = keras_vit.export(model, path, format, samples=images)
            except ValueError as error:
                return {
                    "difference": "",
                    "mib": "",
                    "reason": " ".join(str(error).split())[:1000],
                }
            return {
                "difference": report.max_difference,
                "mib": report.size_bytes / 2**20,
                "reason": "",
            }

    return answer


if __name__ == "__main__":
    command_or_worker(main, start)
