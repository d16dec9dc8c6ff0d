"""The patch embedding of ViT-B/16 as reshape and matrix product, and as a convolution.

    python -m benchmarks.patch_embedding

Both in one process for each backend, taking turns; the median counts, and that of the ratio.
"""

import argparse
import statistics

from benchmarks.common import (
    BACKENDS,
    Worker,
    command_or_worker,
    hardware_name,
    installed,
    print_rows,
    results_path,
    timed,
    versions,
    write_rows,
)

KEY = ("backend", "step", "batch")
SHOWN = (*KEY, "matmul_s", "conv_s", "speed")


def main():
    arguments = _arguments()
    path = results_path("patch_embedding", arguments.out)
    for backend in filter(installed, BACKENDS):
        worker = Worker("benchmarks.patch_embedding", {"batch": arguments.batch}, backend)
        rows = [_row(worker, backend, step, arguments) for step in ("forward", "gradient")]
        worker.close()
        write_rows(path, rows, KEY)
        print_rows(rows, SHOWN)


def _row(worker, backend, step, arguments):
    rounds = [worker.ask(step=step, least=arguments.least) for _ in range(arguments.rounds + 1)]
    rounds = rounds[1:]  # the first one compiled
    return {
        "hardware": hardware_name(),
        "backend": backend,
        "step": step,
        "batch": arguments.batch,
        "matmul_s": statistics.median(r["matmul"] for r in rounds),
        "conv_s": statistics.median(r["conv"] for r in rounds),
        "speed": statistics.median(r["conv"] / r["matmul"] for r in rounds),
        "rounds": arguments.rounds,
        "versions": versions("keras", backend),
    }


def start(batch):
    """The worker: answers with the seconds that either way takes."""
    import keras
    import numpy as np

    from benchmarks import backends
    from keras_vit.layers import PatchEmbedding

    inputs = keras.Input((224, 224, 3))
    matmul = keras.Model(inputs, PatchEmbedding(768)(inputs))
    # channels_last on PyTorch too, as the images come
    conv = keras.layers.Conv2D(768, 16, strides=16, data_format="channels_last")(inputs)
    conv = keras.Model(inputs, keras.layers.Reshape((196, 768))(conv))
    images = np.random.default_rng(0).normal(size=(batch, 224, 224, 3)).astype("float32")
    images = backends.to_device(images)
    make = {"forward": backends.forward_function, "gradient": backends.gradient_function}
    functions = {step: {"matmul": kind(matmul), "conv": kind(conv)} for step, kind in make.items()}

    def answer(step, least):
        return {
            name: timed(lambda f=f: backends.synchronize(f(images)), least)[0]
            for name, f in functions[step].items()
        }

    return answer


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--least", type=float, default=0.3, help="seconds a turn takes at least")
    parser.add_argument("--out", help="CSV file, by default results/patch_embedding_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    command_or_worker(main, start)
