"""ViT-B/16 and ViT-L/16 on one GPU, in bfloat16, beside timm and transformers: speed and MFU.

    python -m benchmarks.gpu --sizes B --minutes 6
    python -m benchmarks.gpu --sizes L --only keras-jax timm-compiled --profile --out FOLDER
    python -m benchmarks.gpu --tiny                      # tiny models on a CPU, to test this

Each contestant is a process of its own. Those of a group start together, the ones that compile
warm up at the same time, and then each is measured alone. A row is printed and written as soon as
it is there. One that fails is a row with its error; what there is no time for is named.

`ms` is the median time of a step, Python's included, and `launch_ms` the time until all of it was
launched: where this is near `ms`, the device waits for Python. `train` waits for the device after
each step, `fit` after twenty, as one trains. `kernel_ms` is what the device computed, by a
profiler. MFU counts 2 FLOPs a multiply-add and 3 forward passes a training step, attention included
and recomputation not.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.common import (
    Worker,
    commit,
    hardware_name,
    installed,
    nvidia_smi,
    results_path,
    versions,
    write_rows,
)

SIZES = {
    "B": dict(width=768, depth=12, num_heads=12, mlp_dim=3072, patch_size=16, image_size=224),
    "L": dict(width=1024, depth=24, num_heads=16, mlp_dim=4096, patch_size=16, image_size=224),
    "tiny": dict(width=48, depth=2, num_heads=3, mlp_dim=96, patch_size=16, image_size=32),
}
MODELS = {"B": "ViTBase", "L": "ViTLarge", "tiny": "tiny"}
NUM_CLASSES = 1000
PRODUCT = 8192  # rows of the matrices whose product shows what the device reaches
# The library, its backend, and whether it is compiled where its users have to ask for it.
CONTESTANTS = {
    "timm": ("timm", "torch", False),
    "timm-compiled": ("timm", "torch", True),
    "transformers": ("transformers", "torch", False),
    "keras-jax": ("keras", "jax", False),
    "keras-torch": ("keras", "torch", False),
    "keras-torch-jit": ("keras", "torch", True),
}
# In the order in which they are measured. JAX gives memory back only when it ends, so it is the
# first; the last one takes longest to compile and gets all the time that is left.
GROUPS = (
    ("keras-jax", "timm", "timm-compiled", "transformers", "keras-torch"),
    ("keras-torch-jit",),
)
COMPILED = ("keras-jax", "timm-compiled", "keras-torch-jit")
STEPS = ("forward", "train", "fit")

KEY = ("model", "image_size", "dtype", "batch", "step", "contestant")
# What is measured, and the decimals that are printed.
FIGURES = {
    "ms": 2,
    "q1_ms": 2,
    "q3_ms": 2,
    "launch_ms": 2,
    "cpu_ms": 2,
    "mfu": 1,
    "images_per_s": 0,
    "first_s": 1,
    "device_mb": 0,
    "sm_mhz": 0,
    "calls": 0,
}
KERNELS = ("kernels", "kernel_ms", "attention_kernels")
# What is printed of the GPU before and after; nothing is ever set.
STATE = ("name", "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.draw")
STATE += ("power.limit", "temperature.gpu")

# Seconds to wait for a worker, and to keep for measuring and profiling a step.
START, PROFILE, CLOSE, MEASURE = 120, 60, 5, 8


def main():
    arguments, started = _arguments(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(arguments, scratch)
        print(f"{run.hardware}, commit {run.common['commit']} -> {run.path}")
        _print_state("before")
        run.product()
        print(_line("model", "step", "contestant", {name: name for name in FIGURES}), flush=True)
        for size in arguments.sizes:
            run.deadline = started + 60 * arguments.minutes - CLOSE
            for group in GROUPS:
                run.group(size, [name for name in group if name in arguments.only])
            started = time.monotonic()
        run.print_speeds()
        _print_state("after")


def macs(size):
    """Multiply-adds of one image's forward pass, attention included."""
    s = SIZES[size]
    patches = (s["image_size"] // s["patch_size"]) ** 2
    tokens, width = patches + 1, s["width"]
    weights = tokens * (4 * width * width + 2 * width * s["mlp_dim"])
    attention = 2 * tokens * tokens * width
    embedding = patches * s["patch_size"] ** 2 * 3 * width
    return embedding + s["depth"] * (weights + attention) + width * NUM_CLASSES


def utilisation(size, step, batch, seconds, peak):
    """Per cent of `peak` TFLOP/s that a step in `seconds` uses."""
    forwards = 1 if step == "forward" else 3
    return 100 * 2 * macs(size) * batch * forwards / seconds / (peak * 1e12)


class Run:
    """Measures groups of contestants until the time is over; a kill loses no row."""

    def __init__(self, arguments, scratch):
        self.arguments = arguments
        self.path = _path(arguments, scratch)
        self.hardware = hardware_name()
        self.common = {
            "peak_tflops": arguments.peak,
            "product_tflops": "",
            "commit": arguments.commit or commit() or "unknown",
        }
        # Whatever compilers and libraries keep goes to a folder that is removed afterwards, so
        # that every first call compiles. Nothing is looked for in the network.
        self.environment = {
            "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/inductor",
            "TRITON_CACHE_DIR": f"{scratch}/triton",
            "CUDA_CACHE_PATH": f"{scratch}/cuda",
            "KERAS_HOME": f"{scratch}/keras",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.deadline = time.monotonic()  # of a size; `main` sets it
        self.rows, self.profiles = {}, {}

    def product(self):
        """Measures a product of two large matrices in bfloat16."""
        if not installed("torch"):
            return
        size = PRODUCT // 32 if self.arguments.tiny else PRODUCT
        worker = self._worker("torch", library="product", size=size)
        answer = _ask(worker, START, do="product")
        worker.close(0 if answer.get("lost") else CLOSE)
        self.common["product_tflops"] = answer.get("tflops", "")
        said = answer.get("error") or f"{answer['tflops']:.4g} TFLOP/s"
        print(f"product of bfloat16 matrices, {size} x {size}: {said}", flush=True)

    def group(self, size, names):
        """Starts some contestants, warms those that compile, measures one after another."""
        workers = {}
        for name in names:
            library, backend, compiled = CONTESTANTS[name]
            missing = [m for m in dict.fromkeys((library, backend)) if not installed(m)]
            if missing:
                self._fail(size, name, f"{', '.join(missing)} not installed")
            elif self._left() < MEASURE:
                _leave_out(size, name)
            else:
                setting = {"batch": self.arguments.batch, "compiled": compiled}
                workers[name] = self._worker(backend, library=library, size=SIZES[size], **setting)
        try:
            self._wait(size, workers, list(workers), min(START, self._left()), [{}], "started")
            compiled = [name for name in workers if name in COMPILED]
            within = self._left() - MEASURE * len(self.arguments.steps) * len(workers)
            warm = [{"do": "warm", "step": step} for step in self.arguments.steps]
            self._wait(size, workers, compiled, within, warm, "compiled")
            for name in list(workers):
                lost = self._measure(size, name, workers[name])
                workers.pop(name).close(0 if lost else CLOSE)  # its memory is the next one's
        finally:
            for worker in workers.values():
                worker.close(0)

    def _worker(self, backend, **setting):
        setting["on_cpu"] = self.arguments.tiny
        return Worker("benchmarks.gpu_contestants", setting, backend, self.environment)

    def _wait(self, size, workers, names, within, requests, done):
        """Asks some workers at the same time; those that were lost are taken out and a row."""
        for name in names:
            for request in requests:
                workers[name].send(**request)
        until = time.monotonic() + within
        for name in names:
            for _ in requests:
                answer = _receive(workers[name], until - time.monotonic())
                if answer.get("lost"):
                    late = f"not {done} within {within:.0f} s"
                    self._fail(size, name, late if answer["lost"] == "late" else answer["error"])
                    workers.pop(name).close(0)
                    break
                if "error" in answer:  # out of memory beside the others? Measuring tries again.
                    print(f"{name} failed beside the others: {answer['error']}", flush=True)

    def _measure(self, size, name, worker):
        """The rows of a contestant, and then what its kernels are. Returns whether it was lost."""
        for step in self.arguments.steps:
            request = {"do": "measure", "step": step, "seconds": self.arguments.seconds}
            answer = _ask(worker, self._left(), **request)
            if answer.get("lost") == "late":
                _leave_out(size, name, step)
                return True
            if "error" in answer:
                self._fail(size, name, answer["error"], [step])
            else:
                self._row(size, name, step, **answer, sm_mhz=_clock())
            if answer.get("lost"):
                return True
        # Last, because a profiler can slow down what follows.
        for step in [s for s in self.arguments.steps if (size, name, s) in self.rows]:
            if step == "fit":  # the kernels of `train`
                continue
            answer = _ask(worker, min(PROFILE, self._left()), do="kernels", step=step)
            if "error" in answer:
                print(f"{name}, profile of {step}: {answer['error']}", flush=True)
                if answer.get("lost"):
                    return True
            else:
                self._kernels(size, name, step, answer)
        return False

    def _row(self, size, name, step, **figures):
        """Prints and writes a row: what was measured, or an error."""
        if "ms" in figures:
            batch, seconds = self.arguments.batch, figures["ms"] / 1e3
            figures["mfu"] = utilisation(size, step, batch, seconds, self.arguments.peak)
            figures["images_per_s"] = round(batch / seconds)
            self.rows[size, name, step] = figures
        print(_line(MODELS[size], step, name, figures), flush=True)
        self._write(size, name, step, figures)

    def _write(self, size, name, step, figures):
        library, backend, _ = CONTESTANTS[name]
        row = {
            "hardware": self.hardware,
            "model": MODELS[size],
            "image_size": SIZES[size]["image_size"],
            "dtype": "mixed_bfloat16",
            "batch": self.arguments.batch,
            "step": step,
            "contestant": name,
            **{key: figures.get(key, "") for key in (*FIGURES, *KERNELS, "parameters", "error")},
            **self.common,
            "versions": versions(*filter(installed, dict.fromkeys((library, backend)))),
        }
        write_rows(self.path, [row], KEY)

    def _kernels(self, size, name, step, found):
        """Adds the kernels to a row; with --profile prints and writes those of a training step."""
        print(
            f"  {name}, {step}: {found['kernels']} kernels, {found['kernel_ms']:.2f} ms on the "
            f"device, {found['attention_kernels']} of fused attention",
            flush=True,
        )
        self._write(size, name, step, self.rows[size, name, step] | found)
        if self.arguments.profile and step == self._profiled():
            lines = [f"{MODELS[size]}, {name}, {step}", f"{'ms':>10} {'calls':>6}  kernel"]
            lines += [f"{ms:10.3f} {calls:6}  {kernel}" for kernel, ms, calls in found["top"]]
            print(*(line[:120] for line in lines), sep="\n", flush=True)
            own = self.profiles.setdefault(size, [])
            own.append("\n".join([*lines, ""]))
            file = self.path.with_name(f"{self.path.stem}_{MODELS[size]}_kernels.txt")
            file.write_text("\n".join(own), encoding="utf-8")

    def _profiled(self):
        """The step whose kernels are listed."""
        return [step for step in self.arguments.steps if step != "fit"][-1]

    def _fail(self, size, name, error, steps=None):
        for step in steps or self.arguments.steps:
            self._row(size, name, step, error=" ".join(error.split())[:300])

    def _left(self):
        return self.deadline - time.monotonic()

    def print_speeds(self):
        """How often each step is done while timm, eager or compiled, does it once."""
        for (size, name, step), figures in self.rows.items():
            for timm in ("timm", "timm-compiled"):
                reference = self.rows.get((size, timm, step))
                if reference and timm != name:
                    speed = reference["ms"] / figures["ms"]
                    print(f"{MODELS[size]}, {step}, {name}: {speed:.2f} of {timm}")


def _leave_out(size, name, step="any step"):
    print(f"{MODELS[size]}, {name}: left out, there was no time for {step}", flush=True)


def _ask(worker, within, **request):
    worker.send(**request)
    return _receive(worker, within)


def _receive(worker, within):
    """The worker's answer, or an "error"; "lost" says that no other will come."""
    try:
        answer = worker.receive(max(within, 0.1))
    except TimeoutError as error:
        return {"error": str(error), "lost": "late"}
    except RuntimeError as error:
        print(error, flush=True)
        lines = str(error).strip().splitlines()
        return {"error": " ".join([lines[0], *lines[-1:]]), "lost": "ended"}
    if "traceback" in answer:
        print(answer["traceback"], flush=True)
    return answer


def _clock():
    """The clock right after a measurement, in MHz."""
    return "".join(nvidia_smi("clocks.sm")).removesuffix(" MHz")


def _print_state(when):
    state = map(" ".join, zip(STATE, nvidia_smi(*STATE), strict=False))
    print(f"{when}: {', '.join(state) or 'no nvidia-smi'}", flush=True)


def _line(model, step, contestant, figures):
    """A line of the table: the figures, or the error."""
    cells = []
    for name, decimals in FIGURES.items():
        value = figures.get(name, "")
        text = value if isinstance(value, str) else f"{value:.{decimals}f}"
        cells.append(text.rjust(max(len(name), 8)))
    return f"{model:9} {step:8} {contestant:16} {figures.get('error') or ' '.join(cells)}"


def _path(arguments, scratch):
    """Where the rows go: a CSV file, in `--out` if that is a folder."""
    if arguments.out and not arguments.out.endswith(".csv"):
        return Path(arguments.out) / results_path("gpu").name
    if arguments.tiny and not arguments.out:  # no result
        return Path(scratch) / "gpu_tiny.csv"
    return results_path("gpu", arguments.out)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["B", "L"], choices=("B", "L"))
    parser.add_argument("--steps", nargs="+", default=STEPS, choices=STEPS)
    parser.add_argument("--only", nargs="+", default=CONTESTANTS, choices=CONTESTANTS)
    parser.add_argument("--minutes", type=float, default=6.0, help="for each size")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s, for the MFU")
    parser.add_argument("--profile", action="store_true", help="the longest kernels of a step")
    parser.add_argument("--commit", help="for the rows, by default what git says")
    parser.add_argument("--tiny", action="store_true", help="tiny models, on a CPU if need be")
    parser.add_argument("--out", help="CSV file or folder, by default results/, by hardware")
    arguments = parser.parse_args()
    arguments.steps = [step for step in STEPS if step in arguments.steps]
    if arguments.tiny:
        arguments.sizes, arguments.batch, arguments.seconds = ["tiny"], 2, 0.05
    return arguments


if __name__ == "__main__":
    main()
