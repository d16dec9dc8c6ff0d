"""What a training step of MAE costs beside a supervised step of the same encoder and batch.

    python -m benchmarks.masked_steps
    python -m benchmarks.masked_steps --model ViTLarge --batch 2 --backend torch

Three steps take turns, each in a process of its own: the supervised one of a classifier, that of an
MAE around the same encoder with the paper's decoder, and that of the encoder alone on the tokens
that MAE leaves it. Each has random images and SGD, whose update costs little. The median of the
CPU seconds counts, and its ratio to the supervised step. All but the supervised step are computed
on fewer tokens, so the ratios are what He et al. 2022, table 2, calls the speed-up.
"""

import argparse
import statistics
import time

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

STEPS = ("supervised", "mae", "encoder")
KEY = ("backend", "model", "batch", "step")
SHOWN = (*KEY, "step_s", "step_cpu_s", "ratio")


def main():
    arguments = _arguments()
    path = results_path("masked_steps", arguments.out)
    for backend in filter(installed, arguments.backend):
        rows = compare(backend, arguments.model, arguments.batch, arguments.rounds)
        write_rows(path, rows, KEY)
        print_rows(rows, SHOWN)


def compare(backend, model, batch, rounds):
    """The rows of the three steps on one backend."""
    workers, load = {}, load_average()
    for step in STEPS:
        setting = {"model": model, "batch": batch, "step": step}
        workers[step] = Worker("benchmarks.masked_steps", setting, backend)
        workers[step].ask()  # compiles
    found = {step: [] for step in STEPS}
    for _ in range(rounds):
        for step, worker in workers.items():
            time.sleep(0.2)  # the other's idle threads go to sleep
            found[step].append(worker.ask())
    for worker in workers.values():
        worker.close()
    median = {
        step: {key: statistics.median(x[key] for x in all_) for key in ("wall", "cpu")}
        for step, all_ in found.items()
    }
    return [
        {
            "hardware": hardware_name(),
            "backend": backend,
            "model": model,
            "batch": batch,
            "step": step,
            "step_s": median[step]["wall"],
            "step_cpu_s": median[step]["cpu"],
            "ratio": median[step]["cpu"] / median["supervised"]["cpu"],
            "load": load,
            "versions": versions("keras", backend),
        }
        for step in STEPS
    ]


def start(model, batch, step):
    """The worker: a function that runs one training step and says what it took."""
    import keras
    import numpy as np

    import keras_vit

    keras.utils.set_random_seed(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    encoder = getattr(keras_vit, model)()
    images = np.random.default_rng(0).normal(size=(batch, 224, 224, 3)).astype("float32")
    labels = np.zeros(batch, "int32")
    if step == "mae":
        trained, data = keras_vit.MAE(encoder), (images,)
        loss = None
    elif step == "supervised":
        trained, data = encoder, (images, labels)
    else:
        tokens = keras.Input((encoder_tokens(encoder), encoder.get_config()["width"]))
        trained = keras.Model(tokens, encoder.read_out(encoder.encode(tokens)))
        shape = (batch, *tokens.shape[1:])
        data = (np.random.default_rng(0).normal(size=shape).astype("float32"), labels)
    trained.compile(keras.optimizers.SGD(1e-4), loss)

    def answer():
        wall, cpu = timed(lambda: trained.train_on_batch(*data))
        return {"wall": wall, "cpu": cpu}

    return answer


def encoder_tokens(encoder):
    """How many tokens MAE leaves an encoder: the prefix, and a quarter of the patches."""
    h, w = encoder.grid_size
    return encoder.num_prefix_tokens + h * w // 4


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--model", default="ViTBase", help="a variant of the Vision Transformer")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="CSV file, by default results/masked_steps_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    command_or_worker(main, start)
