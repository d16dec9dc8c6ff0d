"""What more pixels cost: a forward pass of SwinTiny and of ViTSmall on ever larger images.

    python -m benchmarks.resolution

Both make about as many multiplications at 224 pixels. Attention in windows costs as much for every
pixel on any image, attention of all with all the more the larger it is.
"""

import argparse

from benchmarks.common import (
    BACKENDS,
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

MODELS = ("SwinTiny", "ViTSmall")
SIZES = (224, 448, 896)
KEY = ("backend", "model", "image_size")
SHOWN = (*KEY, "gmacs", "gmacs_a_megapixel", "cpu_s", "cpu_s_a_megapixel")


def main():
    arguments = _arguments()
    path = results_path("resolution", arguments.out)
    for backend in filter(installed, arguments.backend):
        rows = [row for model in MODELS for row in measure(backend, model, arguments.rounds)]
        write_rows(path, rows, KEY)
        print_rows(rows, SHOWN)


def measure(backend, model, rounds):
    """The rows of a model, one for every size."""
    rows = []
    for size in SIZES:
        worker = Worker("benchmarks.resolution", {"model": model, "image_size": size}, backend)
        worker.ask()  # compiles
        seconds = sorted(worker.ask()["cpu_s"] for _ in range(rounds))[rounds // 2]
        gmacs = worker.ask()["macs"] / 1e9
        worker.close()
        rows.append(
            {
                "hardware": hardware_name(),
                "backend": backend,
                "model": model,
                "image_size": size,
                "gmacs": gmacs,
                "gmacs_a_megapixel": gmacs / (size * size / 1e6),
                "cpu_s": seconds,
                "cpu_s_a_megapixel": seconds / (size * size / 1e6),
                "rounds": rounds,
                "load": load_average(),
                "versions": versions("keras", backend),
            }
        )
    return rows


def start(model, image_size):
    """The worker: it answers with the CPU seconds of a forward pass on one image."""
    import numpy as np

    import keras_vit

    built = getattr(keras_vit, model)(image_size=image_size)
    images = np.random.default_rng(0).normal(size=(1, image_size, image_size, 3))
    macs = keras_vit.complexity(built).macs

    def answer():
        return {"cpu_s": timed(lambda: built.predict_on_batch(images))[1], "macs": macs}

    return answer


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="CSV file, by default results/resolution_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    command_or_worker(main, start)
