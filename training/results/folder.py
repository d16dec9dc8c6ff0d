"""Run folders: their files, and which folder a run uses, so that nothing is overwritten."""

import json
import re
from pathlib import Path

from ..files import replace


class RunFolder:
    """The files of one run.

    Args:
        path: str or `Path`; it need not exist.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.lock = self.path / "run.lock"  # see `training.results.lock`
        self.recipe = self.path / "recipe.toml"
        self.checkpoint = self.path / "model.keras"
        self.best = self.path / "best.keras"
        self.metrics = self.path / "metrics.csv"
        self.curves = self.path / "curves.png"
        self.predictions = self.path / "predictions.png"
        self.confusion = self.path / "confusion.png"
        self.worst = self.path / "worst.png"
        self.recall = self.path / "precision_recall.png"
        self.report = self.path / "report.md"
        self.saved_model = self.path / "saved_model"
        self.tensorboard = self.path / "tensorboard"
        self.wandb = self.path / "wandb_id.txt"  # id of the run at Weights & Biases
        self.examples = self.path / "examples.npz"  # the encoded pictures that are used
        self.skipped = self.path / "skipped.csv"
        self.data = self.path / "data.json"  # see `training.data.fingerprint`
        self.result = self.path / "result.json"

    @property
    def state(self):
        """ "free", "unfinished", "finished" (its result is written), or "foreign" (other files)."""
        if self.result.exists() and self.recipe.exists():
            return "finished"
        if self.recipe.exists():
            return "unfinished"
        if self.path.exists() and not self.path.is_dir():
            return "foreign"
        # Files of a run that was killed before it started do not count.
        names = {x.name for x in self.path.iterdir()} if self.path.exists() else set()
        own = {name for name in names if name.startswith(".writing-")}
        own |= {"smoke", self.lock.name}
        return "foreign" if names - own else "free"

    def create(self):
        """Creates the folder; raises a `ValueError` if it is not writable."""
        probe = self.path / ".writing-probe"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"The run folder must be writable; choose another with --run-dir: "
                f"{error.strerror}. Received: {self.path}"
            ) from error

    def read_result(self):
        """The result of a finished run, a dict."""
        return json.loads(self.result.read_text(encoding="utf-8"))

    def write_result(self, result):
        """Writes the result, which marks the run as finished."""
        self.write_whole(self.result, json.dumps(result, indent=2) + "\n")

    def write_whole(self, path, text):
        """Writes `text` to a file of this folder atomically."""
        scratch = path.with_name(f".writing-{path.name}")
        scratch.write_text(text, encoding="utf-8")
        replace(scratch, path)


def choose(base, resume, new):
    """Chooses the folder of a run.

    Args:
        base: `Path`, such as runs/digits; later runs are runs/digits-2, ...
        resume: bool, whether to resume the latest run.
        new: bool, whether to use the next free name.

    Returns:
        `RunFolder`; free, or with a run if `resume`.

    Raises:
        ValueError: if there is a run but neither `resume` nor `new`, no run to resume, or other
            files.
    """
    folders = _numbered(base)
    if resume:
        runs = [f for f in folders if f.state in ("finished", "unfinished")]
        if not runs:
            raise ValueError(f"There is no run to resume; leave --resume out. Received: {base}")
        return runs[-1]
    if new and folders:
        last = folders[-1].path
        number = 1 if last == base else int(last.name.rpartition("-")[2])
        return RunFolder(base.with_name(f"{base.name}-{number + 1}"))
    folder = RunFolder(base)
    if folder.state == "foreign":
        raise ValueError(
            f"The run folder holds other files; choose another with --run-dir. Received: {base}"
        )
    if folder.state != "free":
        raise ValueError(
            f"The folder holds a run that is {folder.state}; continue it with --resume, or start "
            f"another with --new. Received: {base}"
        )
    return folder


def _numbered(base):
    """The run folders base, base-2, base-3, ... that are not free, by number."""
    found = {1: RunFolder(base)}
    if base.parent.is_dir():
        for path in base.parent.iterdir():
            match = re.fullmatch(re.escape(base.name) + r"-([1-9]\d*)", path.name)
            if match and int(match[1]) > 1:
                found[int(match[1])] = RunFolder(path)
    return [found[number] for number in sorted(found) if found[number].state != "free"]
