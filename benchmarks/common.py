"""What the benchmarks share: the name of the hardware, versions, CSV files, workers."""

import contextlib
import csv
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
BACKENDS = ("tensorflow", "jax", "torch")


def hardware_name():
    """The first GPU, or the CPU and its cores, as a part of a file name: "amd-epyc-2-cores"."""
    found = nvidia_smi("name")
    if found:
        return _slug(found[0])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return _slug(f"{_cpu_model()} {cores} cores")


def nvidia_smi(*fields):
    """What nvidia-smi says of `fields` of the first GPU, a list of str; empty without a GPU."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout.strip():
        return []
    return listed.stdout.splitlines()[0].split(", ")


def _cpu_model():
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return re.sub(r"\((R|TM)\)|\bProcessor\b|\bCPU\b|@.*", " ", found[1])
    if sys.platform == "darwin":
        return subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], text=True)
    return platform.processor() or platform.machine()


def _slug(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def installed(module):
    """Whether `module` can be imported; it is not imported."""
    return importlib.util.find_spec(module) is not None


def versions(*distributions):
    """ "keras 3.15.1 + jax 0.10.2" for the named distributions."""
    return " + ".join(f"{name} {importlib.metadata.version(name)}" for name in distributions)


def commit():
    """The commit of this checkout, with "-dirty" where a Python file differs; "" without git."""
    if not shutil.which("git"):
        return ""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)

    found = git("rev-parse", "--short=10", "HEAD").stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py").stdout
    return found + "-dirty" * bool(changed)


def load_average():
    """Processes that wanted to run during the last minute: more than the cores spoils figures."""
    return round(os.getloadavg()[0], 1)


def results_path(benchmark, out=None):
    """Where the figures of `benchmark` go: `out`, or a file in results/ named by the hardware."""
    return Path(out) if out else RESULTS / f"{benchmark}_{hardware_name()}.csv"


def read_rows(path):
    """The rows of a CSV file as dicts of str."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows, key):
    """Writes `rows` (dicts) to a CSV file; older rows there stay, unless a new one has their key.

    Args:
        path: pathlib.Path of the file.
        rows: list of dicts with the same keys.
        key: names of the columns that together say what a row measured.
    """
    rows = [{name: _text(value) for name, value in row.items()} for row in rows]
    new = {tuple(row[name] for name in key) for row in rows}
    old = read_rows(path) if path.exists() else []
    kept = [row for row in old if tuple(row[name] for name in key) not in new]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept + rows)


def _text(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_rows(rows, columns):
    """Prints some columns of `rows` as an aligned table."""
    lines = [columns] + [[_text(row[name]) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))


def peak_memory():
    """Peak resident memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent process had before it started this
        return int(re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)[1]) / 976.5625
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def timed(function, least=0.0):
    """Calls `function` again and again for `least` seconds, at least once.

    Returns:
        (wall, cpu): mean seconds of a call, and CPU seconds of this process in it.
    """
    calls, start, cpu_start = 0, time.perf_counter(), time.process_time()
    while calls == 0 or time.perf_counter() - start < least:
        function()
        calls += 1
    return (time.perf_counter() - start) / calls, (time.process_time() - cpu_start) / calls


class Worker:
    """A process of its own that answers requests: one library on one backend.

    Args:
        module: the module to run, which calls `serve` or `command_or_worker`.
        arguments: keyword arguments of its `start`, JSON-like.
        backend: what KERAS_BACKEND is there.
        environment: dict of further environment variables.
    """

    def __init__(self, module, arguments, backend="tensorflow", environment=None):
        environment = {**os.environ, **(environment or {})}
        environment |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
        # On a GPU, so that two libraries fit beside each other.
        environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "stderr.txt")
        with open(self._log, "w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, "--worker", json.dumps(arguments)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ask(self, **request):
        """The worker's answer to a request; both are JSON-like."""
        self.send(**request)
        return self.receive()

    def send(self, **request):
        """Asks without waiting, so that several workers can do something at the same time."""
        with contextlib.suppress(BrokenPipeError):  # it has ended: what it said is told below
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def receive(self, seconds=None):
        """The answer to what was sent.

        Raises:
            TimeoutError: if it does not come within `seconds`.
            RuntimeError: if the process has ended.
        """
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            raise TimeoutError(f"A worker did not answer within {seconds:.0f} s.")
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            said = self._log.read_text()[-4000:]
            raise RuntimeError(f"A worker ended with exit code {code}:\n{said}")
        return json.loads(line)

    def close(self, seconds=None):
        """Ends the process, by force if it has not ended after `seconds`."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # its loop ends
        self._process.stdout.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


def serve(start):
    """The worker's side: `start(**arguments)` gives a function that answers requests."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    answer = start(**json.loads(sys.argv[2]))
    for line in sys.stdin:
        answers.write(json.dumps(answer(**json.loads(line))) + "\n")
        answers.flush()


def command_or_worker(main, start):
    """For a module that is both: runs `main`, or serves where a `Worker` started it."""
    if sys.argv[1:2] == ["--worker"]:
        serve(start)
    else:
        main()
