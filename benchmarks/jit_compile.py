"""Training steps with `jit_compile` and without: what a step costs, and what compiling costs first.

    python -m benchmarks.jit_compile

On each backend the two take turns in processes of their own. JAX without it runs operation by
operation; PyTorch with it is `torch.compile`, which needs a C++ compiler.
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

# The network of the recipe cifar10_small, and one of usual size.
MODELS = {
    "cifar10_small": dict(
        image_size=32, patch_size=4, width=96, depth=6, num_heads=3, mlp_dim=192, pooling="gap"
    ),
    "ViTSmall": dict(image_size=224, patch_size=16, width=384, depth=12, num_heads=6, mlp_dim=1536),
}
BATCHES = {"cifar10_small": 128, "ViTSmall": 8}
KEY = ("backend", "model", "batch", "jit_compile")
SHOWN = (*KEY, "step_s", "step_cpu_s", "first_s")


def main():
    arguments = _arguments()
    path = results_path("jit_compile", arguments.out)
    for backend in filter(installed, arguments.backend):
        for model in arguments.model:
            rows = compare(backend, model, arguments.rounds)
            write_rows(path, rows, KEY)
            print_rows(rows, SHOWN)


def compare(backend, model, rounds):
    """The rows of one model on one backend, without `jit_compile` and with it."""
    workers, firsts, load = {}, {}, load_average()
    for jit_compile in (False, True):
        setting = {"model": model, "jit_compile": jit_compile}
        workers[jit_compile] = Worker("benchmarks.jit_compile", setting, backend)
        firsts[jit_compile] = workers[jit_compile].ask(least=0)["wall"]
    steps = {jit_compile: [] for jit_compile in workers}
    for _ in range(rounds):
        for jit_compile, worker in workers.items():
            time.sleep(0.2)  # the other's idle threads go to sleep
            steps[jit_compile].append(worker.ask(least=0.5))
    for worker in workers.values():
        worker.close()
    median = {
        jit_compile: {kind: statistics.median(step[kind] for step in own) for kind in own[0]}
        for jit_compile, own in steps.items()
    }
    return [
        {
            "hardware": hardware_name(),
            "backend": backend,
            "model": model,
            "batch": BATCHES[model],
            "jit_compile": jit_compile,
            "step_s": median[jit_compile]["wall"],
            "step_cpu_s": median[jit_compile]["cpu"],
            "first_s": firsts[jit_compile],
            "load": load,
            "versions": versions("keras", backend),
        }
        for jit_compile in steps
    ]


def start(model, jit_compile):
    """The worker: it answers with the seconds of a training step; the first one compiles."""
    import keras
    import numpy as np

    import keras_vit
    from benchmarks import backends

    vit = keras_vit.VisionTransformer(num_classes=10, **MODELS[model])
    vit.compile(
        keras.optimizers.AdamW(1e-3, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    random = np.random.default_rng(0)
    images = random.normal(size=(BATCHES[model], *vit.input.shape[1:])).astype("float32")
    labels = random.integers(0, 10, BATCHES[model])

    def train():
        vit.train_on_batch(images, labels)
        backends.synchronize([v.value for v in vit.trainable_variables])

    def answer(least):
        wall, cpu = timed(train, least)
        return {"wall": wall, "cpu": cpu}

    return answer


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--model", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", help="CSV file, by default results/jit_compile_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    command_or_worker(main, start)
