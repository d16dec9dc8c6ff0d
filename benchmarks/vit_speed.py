"""ViT-B/16 forward and train step: keras_vit beside keras-hub, timm and transformers.

    python -m benchmarks.vit_speed

timm is the reference. It takes turns with every other contestant (timm, X, timm, X, ...), so that
whatever else the machine does falls on both; of each the median counts, and of their ratio too.
"""

import argparse
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

# Copied from keras_vit.VARIANTS: this process imports no library; the workers have the memory.
SHAPES = {
    "ViTTiny": dict(patch_size=16, width=192, depth=12, num_heads=3, mlp_dim=768),
    "ViTSmall": dict(patch_size=16, width=384, depth=12, num_heads=6, mlp_dim=1536),
    "ViTBase": dict(patch_size=16, width=768, depth=12, num_heads=12, mlp_dim=3072),
    "ViTLarge": dict(patch_size=16, width=1024, depth=24, num_heads=16, mlp_dim=4096),
}
PEERS = ("transformers", *(f"keras_hub-{backend}" for backend in BACKENDS))
CONTESTANTS = (*(f"keras_vit-{backend}" for backend in BACKENDS), *PEERS)
REFERENCE = "timm"
DISTRIBUTIONS = {
    "timm": ("timm", "torch"),
    "transformers": ("transformers", "torch"),
    "keras_vit": ("keras",),
    "keras_hub": ("keras-hub", "keras"),
}
KEY = ("model", "image_size", "depth", "dtype", "step", "batch", "library", "backend")
SHOWN = ("step", "batch", "library", "backend", "wall_s", "cpu_s", "speed", "speed_cpu", "peak_mb")
WARM_UP = 2  # calls before the first that counts: compiling, allocating
PAUSE = 0.2  # seconds in which the other's idle threads go to sleep


def main():
    arguments = _arguments()
    path = results_path("vit_speed", arguments.out)
    started = time.perf_counter()
    print(f"{hardware_name()}, load {load_average()}, -> {path}", flush=True)
    for name in (REFERENCE, *CONTESTANTS):
        missing = [m for m in _modules(name) if not installed(m)]
        if missing:
            print(f"skipped {name}: {', '.join(missing)} not installed", flush=True)
    for name in arguments.only or CONTESTANTS:
        if all(map(installed, _modules(name))):
            rows = compare(name, arguments)
            write_rows(path, rows, KEY)
            print_rows(rows, SHOWN)
            print(flush=True)
    print(f"{(time.perf_counter() - started) / 60:.0f} minutes, load {load_average()}")


def compare(name, arguments):
    """The rows of one contestant and of the reference beside it."""
    shape = dict(SHAPES[arguments.model])
    shape["depth"] = arguments.depth or shape["depth"]
    setting = {"shape": shape, "image_size": arguments.image_size, "dtype": arguments.dtype}
    names = [name] + [REFERENCE] * installed(REFERENCE)
    workers = [_start(n, setting) for n in names]
    parameters = {worker.ask()["parameters"] for worker in workers}
    if len(parameters) > 1:
        raise ValueError(f"{names} must have as many parameters. Received: {parameters}")
    rows = []
    for step in arguments.steps:
        for batch in arguments.batch:
            load = load_average()
            figures = _alternate(workers, step, batch, arguments)
            for n, own in zip(names, figures, strict=True):
                rows.append(
                    {
                        "hardware": hardware_name(),
                        "model": arguments.model,
                        "image_size": arguments.image_size,
                        "depth": shape["depth"],
                        "dtype": arguments.dtype,
                        "step": step,
                        "batch": batch,
                        "library": n.partition("-")[0],
                        "backend": n.partition("-")[2] or "torch",
                        **_summary(own, figures[-1]),
                        "rounds": arguments.rounds,
                        "load": load,
                        "versions": _versions(n),
                    }
                )
    for worker in workers:
        worker.close()
    return rows


def _start(name, setting):
    library, _, backend = name.partition("-")
    return Worker("benchmarks.contestants", {"library": library, **setting}, backend or "torch")


def _alternate(workers, step, batch, arguments):
    """Takes turns: for every worker the list of its answers, one a round."""
    for worker in workers:
        worker.ask(load=batch)
        for _ in range(WARM_UP):
            worker.ask(step=step, least=0)
    figures = [[] for _ in workers]
    for _ in range(arguments.rounds):
        for worker, own in reversed(list(zip(workers, figures, strict=True))):  # reference first
            time.sleep(PAUSE)
            own.append(worker.ask(step=step, least=arguments.least))
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


def _modules(name):
    library, _, backend = name.partition("-")
    return ("keras_vit", backend) if library == "keras_vit" else (library, backend or "torch")


def _versions(name):
    library, _, backend = name.partition("-")
    return versions(*DISTRIBUTIONS[library], *([backend] if backend else []))


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViTBase", choices=SHAPES)
    parser.add_argument("--depth", type=int, help="blocks, for quick runs; by default the model's")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--dtype", default="float32", choices=("float32", "mixed_bfloat16"))
    parser.add_argument("--steps", nargs="+", default=["forward", "train"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--least", type=float, default=0.5, help="seconds a turn takes at least")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="NAME")
    parser.add_argument("--out", help="CSV file, by default results/vit_speed_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    main()
