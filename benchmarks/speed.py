"""Forward and training step of a model of each family, beside keras-hub, timm and transformers.

    python -m benchmarks.speed                                   # ViT-B/16, one image and eight
    taskset -c 0 python -m benchmarks.speed --model families --batch 4 --rounds 5

timm is the reference. On every backend it takes turns with the libraries there (timm, keras_vit,
keras-hub, timm, ...), so that whatever else the machine does falls on all of them; of each the
median counts, and of its ratio to timm too.
"""

import argparse
import itertools
import statistics
import time

from benchmarks.common import (
    BACKENDS,
    Worker,
    hardware_name,
    installed,
    load_average,
    print_rows,
    results_path,
    versions,
    write_rows,
)

SETR = "SETRPUP, ViT-S, 512"  # beside `benchmarks.plain_setr` on timm's encoder
# Who has a model besides keras_vit and timm. This process imports no library.
MODELS = {
    "ViTTiny": (),
    "ViTBase": ("keras_hub", "transformers"),
    "DeiTSmall": ("keras_hub",),
    "SwinTiny": ("keras_hub", "transformers"),
    "SwinV2Tiny": (),
    "PVTv2B2": (),
    "R26ViTSmall32": (),
    "CaiTSmall24": (),
    SETR: (),
}
FAMILIES = ("DeiTSmall", "SwinTiny", "SwinV2Tiny", "PVTv2B2", "R26ViTSmall32", "CaiTSmall24")
LIBRARIES = ("keras_vit", "keras_hub", "transformers")
REFERENCE = "timm"
DISTRIBUTIONS = {
    "timm": ("timm",),
    "transformers": ("transformers",),
    "keras_vit": ("keras",),
    "keras_hub": ("keras-hub", "keras"),
}
KEY = ("model", "image_size", "dtype", "step", "batch", "beside", "library")
SHOWN = (
    "model",
    "step",
    "batch",
    "beside",
    "library",
    "wall_s",
    "cpu_s",
    "speed",
    "speed_cpu",
    "peak_mb",
)
WARM_UP = 2  # calls before the first that counts: compiling, allocating
PAUSE = 0.2  # seconds in which the other's idle threads go to sleep


def main():
    arguments = _arguments()
    families = arguments.model == "families"
    path = results_path("family_speed" if families else "speed", arguments.out)
    started = time.perf_counter()
    print(f"{hardware_name()}, load {load_average()}, -> {path}", flush=True)
    models = FAMILIES if families else (arguments.model,)
    for model, backend in itertools.product(models, arguments.backend):
        names = []
        for library in (REFERENCE, "keras_vit", *MODELS[model]):
            if _backend(library, backend) != backend and library != REFERENCE:
                continue  # PyTorch's stand beside PyTorch
            missing = [m for m in _modules(library, backend) if not installed(m)]
            if missing:
                print(f"skipped {library} on {backend}: {', '.join(missing)} not installed")
            elif library == REFERENCE or library in arguments.library:
                names.append(library)
        if names and names != [REFERENCE]:
            rows = compare(model, names, backend, arguments)
            write_rows(path, rows, KEY)
            print_rows(rows, SHOWN)
            print(flush=True)
    print(f"{(time.perf_counter() - started) / 60:.0f} minutes, load {load_average()}")


def compare(model, names, backend, arguments):
    """The rows of the libraries that take turns on one backend, the reference first."""
    setting = {"model": model, "dtype": arguments.dtype}
    workers = [_start(name, backend, setting) for name in names]
    sizes = {worker.ask()["image_size"] for worker in workers}
    parameters = [worker.ask()["parameters"] for worker in workers]
    # keras-hub's DeiT has one head of two.
    if len(sizes) > 1 or max(parameters) > 1.02 * min(parameters):
        raise ValueError(f"{names} must be one network. Received: {parameters} at {sizes} pixels")
    rows = []
    for step in arguments.steps:
        for batch in arguments.batch:
            load = load_average()
            figures = _alternate(workers, step, batch, arguments)
            for name, own in zip(names, figures, strict=True):
                rows.append(
                    {
                        "hardware": hardware_name(),
                        "model": model,
                        "image_size": min(sizes),
                        "dtype": arguments.dtype,
                        "step": step,
                        "batch": batch,
                        "beside": backend,
                        "library": name,
                        **_summary(own, figures[0]),
                        "rounds": arguments.rounds,
                        "load": load,
                        "versions": versions(*DISTRIBUTIONS[name], _backend(name, backend)),
                    }
                )
    for worker in workers:
        worker.close()
    return rows


def _start(name, backend, setting):
    arguments = {"library": name, **setting}
    return Worker("benchmarks.contestants", arguments, _backend(name, backend))


def _alternate(workers, step, batch, arguments):
    """Takes turns: for every worker the list of its answers, one a round."""
    for worker in workers:
        worker.ask(load=batch)
        for _ in range(WARM_UP):
            worker.ask(step=step, least=0)
    figures = [[] for _ in workers]
    turns = list(zip(workers, figures, strict=True))
    for _ in range(arguments.rounds):
        for worker, own in turns:
            time.sleep(PAUSE)
            own.append(worker.ask(step=step, least=arguments.least))
        turns.append(turns.pop(0))  # so that nobody always follows the same one
    return figures


def _summary(own, reference):
    """Medians of a contestant's rounds; speed is how often it is done while timm is done once."""

    def median(name):
        return statistics.median(figures[name] for figures in own)

    def ratio(name):
        pairs = zip(reference, own, strict=True)
        return statistics.median(theirs[name] / ours[name] for theirs, ours in pairs)

    return {
        "wall_s": median("wall"),
        "cpu_s": median("cpu"),
        "speed": ratio("wall"),
        "speed_cpu": ratio("cpu"),
        "peak_mb": round(own[-1]["peak_mb"]),
        "device_mb": round(own[-1]["device_mb"]),
    }


def _backend(library, backend):
    """What a library computes with, in the group of a backend."""
    return backend if library.startswith("keras") else "torch"


def _modules(library, backend):
    return (library, _backend(library, backend))


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViTBase", choices=("families", *MODELS))
    parser.add_argument("--dtype", default="float32", choices=("float32", "mixed_bfloat16"))
    parser.add_argument("--steps", nargs="+", default=["forward", "train"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--least", type=float, default=0.5, help="seconds a turn takes at least")
    parser.add_argument("--backend", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--library", nargs="+", default=LIBRARIES, choices=LIBRARIES)
    parser.add_argument("--out", help="CSV file, by default in results/, by hardware")
    return parser.parse_args()


if __name__ == "__main__":
    main()
