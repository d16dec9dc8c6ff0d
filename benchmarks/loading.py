"""Seconds and memory of loading ViT-H/14 (2.5 GB): keras_vit beside timm and transformers.

    python -m benchmarks.loading

timm and transformers write a model of random weights as they publish theirs; every library then
loads its own file, or keras_vit timm's, in processes of their own, taking turns. All weights are
summed once, for transformers maps the file into memory and reads it only then. What importing the
libraries took is subtracted from the peak; `over_model` is the peak over the size of the weights.
"""

import argparse
import contextlib
import re
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.common import (
    BACKENDS,
    Worker,
    command_or_worker,
    hardware_name,
    installed,
    load_average,
    peak_memory,
    print_rows,
    results_path,
    versions,
    write_rows,
)

KEY = ("model", "library", "backend")
MODELS = {  # timm's name: fields of transformers' configuration
    "vit_huge_patch14_224": dict(
        hidden_size=1280,
        num_hidden_layers=32,
        num_attention_heads=16,
        intermediate_size=5120,
        patch_size=14,
        num_labels=1000,
    ),
    "vit_base_patch16_224": dict(num_labels=1000),
}


def start(library):
    """A worker that has imported its library: it loads once, or, as "writer", writes the files."""
    load = {
        "writer": _writer,
        "timm": _timm,
        "transformers": _transformers,
        "keras_vit": _keras_vit,
    }[library]()

    def answer(**request):
        before, begin = _resident(), time.perf_counter()
        parameters = load(**request)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "peak": peak_memory() - before, "parameters": parameters}

    return answer


def _keras_vit():
    import keras

    import keras_vit

    keras.config.disable_interactive_logging()
    keras.ops.zeros(1)  # the backend has started

    def load(folder, model):
        made = keras_vit.from_pretrained(f"{folder}/timm")
        sum(float(keras.ops.sum(x)) for x in made.weights)
        return made.count_params()

    return load


def _timm():
    import safetensors.torch
    import timm

    def load(folder, model):
        made = timm.create_model(model, num_classes=1000)
        made.load_state_dict(safetensors.torch.load_file(f"{folder}/timm/model.safetensors"))
        return _touched(made)

    return load


def _transformers():
    import transformers

    def load(folder, model):
        made = transformers.ViTForImageClassification.from_pretrained(f"{folder}/hf")
        return _touched(made)

    return load


def _touched(module):
    """The number of a PyTorch module's parameters, all of which were read."""
    sum(float(x.detach().sum()) for x in module.parameters())
    return sum(x.numel() for x in module.parameters())


def _writer():
    import timm
    import transformers

    def write(folder, model):
        made = timm.create_model(model, num_classes=1000)
        timm.models.save_for_hf(made, f"{folder}/timm", safe_serialization=True)
        config = transformers.ViTConfig(**MODELS[model])
        transformers.ViTForImageClassification(config).save_pretrained(f"{folder}/hf")

    return write


def _resident():
    """Resident memory of this process, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^VmRSS:\s*(\d+) kB", status, re.MULTILINE)[1]) / 976.5625


def main():
    arguments = _arguments()
    path = results_path("loading", arguments.out)
    contestants = [("timm", "torch"), ("transformers", "torch")]
    contestants += [("keras_vit", backend) for backend in BACKENDS]
    missing = [x for x in ("timm", "transformers") if not installed(x)]
    if missing:
        raise SystemExit(f"timm and transformers write the files. Not installed: {missing}")
    with tempfile.TemporaryDirectory() as folder:
        request = {"folder": folder, "model": arguments.model}
        _ask("writer", "torch", request)
        rounds = [_round(contestants, request) for _ in range(arguments.rounds + 1)][1:]
    rows = []
    for number, (library, backend) in enumerate(contestants):
        answers = [found[number] for found in rounds]
        size = answers[0]["parameters"] * 4 / 1e6
        peak = statistics.median(x["peak"] for x in answers)
        rows.append(
            {
                "hardware": hardware_name(),
                "model": arguments.model,
                "library": library,
                "backend": backend,
                "seconds": statistics.median(x["seconds"] for x in answers),
                "peak_mb": round(peak),
                "model_mb": round(size),
                "over_model": f"{peak / size:.2f}",
                "rounds": arguments.rounds,
                "load": load_average(),
                "versions": versions("keras" if library == "keras_vit" else library, backend),
            }
        )
    write_rows(path, rows, KEY)
    print_rows(rows, KEY + ("seconds", "peak_mb", "model_mb", "over_model"))


def _round(contestants, request):
    """The answer of each, one after the other."""
    return [_ask(library, backend, request) for library, backend in contestants]


def _ask(library, backend, request):
    with contextlib.closing(Worker("benchmarks.loading", {"library": library}, backend)) as worker:
        return worker.ask(**request)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_huge_patch14_224", choices=MODELS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="CSV file, by default results/loading_<hardware>.csv")
    return parser.parse_args()


if __name__ == "__main__":
    command_or_worker(main, start)
