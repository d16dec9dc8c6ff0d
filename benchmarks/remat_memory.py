"""Peak memory and time of a training step, with gradient checkpointing (`remat`) and without.

    python -m benchmarks.remat_memory

A process for each, because a peak does not go down again; on a GPU the memory is the GPU's.
"""

import argparse
import os

from benchmarks.common import (
    BACKENDS,
    Worker,
    command_or_worker,
    hardware_name,
    installed,
    peak_memory,
    print_rows,
    results_path,
    timed,
    versions,
    write_rows,
)

KEY = ("backend", "model", "image_size", "batch", "dtype", "remat")
SHOWN = (*KEY, "peak_mb", "step_s")


def main():
    arguments = _arguments()
    path = results_path("remat_memory", arguments.out)
    # Or glibc's malloc keeps freed pieces of many sizes, which hides what PyTorch needs.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "1000000"
    for backend in filter(installed, BACKENDS):
        rows = []
        for remat in (False, True):
            setting = {
                "model": arguments.model,
                "image_size": arguments.image_size,
                "batch": arguments.batch,
                "dtype": arguments.dtype,
                "remat": remat,
            }
            worker = Worker("benchmarks.remat_memory", setting, backend)
            measured = worker.ask(steps=arguments.steps)
            worker.close()
            who = {"hardware": hardware_name(), "backend": backend}
            rows.append({**who, **setting, **measured, "versions": versions("keras", backend)})
        write_rows(path, rows, KEY)
        print_rows(rows, SHOWN)


def start(model, image_size, batch, dtype, remat):
    """The worker: trains and answers with the growth of its peak memory, and seconds a step."""
    import keras
    import numpy as np

    import keras_vit
    from benchmarks import backends

    if model.startswith("SETR"):  # an encoder with the decoder "pup"
        encoder = getattr(keras_vit, model.removeprefix("SETR"))
        encoder = encoder(image_size=image_size, dtype=dtype, remat=remat)
        vit = keras_vit.SETR(encoder, "pup", dtype=dtype)
        vit.compile("adamw")
    else:
        vit = getattr(keras_vit, model)(image_size=image_size, dtype=dtype, remat=remat)
        vit.compile("adamw", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.zeros((batch, *vit.input.shape[1:]), "float32")
    labels = np.zeros((batch, *vit.output.shape[1:-1]), "int32")
    before = peak_memory()

    def train():
        vit.train_on_batch(images, labels)

    def answer(steps):
        train()  # compiles
        seconds = sorted(timed(train)[0] for _ in range(steps))[steps // 2]
        peak = backends.device_peak() or peak_memory() - before
        return {"peak_mb": round(peak), "step_s": seconds}

    return answer


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViTSmall", help="or SETRViTSmall, on that encoder")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", default="float32", choices=("float32", "mixed_bfloat16"))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", help="CSV file, by default results/remat_memory_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    command_or_worker(main, start)
