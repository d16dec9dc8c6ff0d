"""The start of a run, new or resumed: its folder, recipe and data, checked."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import keras_vit
from keras_vit.terminal import printable

from .. import data, tasks
from .. import recipe as recipes
from ..data import fingerprint
from ..data.corrupt import as_csv
from ..data.examples import Splits, save
from ..recipe import settings
from ..recipe.model_schema import AUTO
from ..recipe.schema import Recipe
from ..recipe.smoke import overrides as smoke_overrides
from ..results import lock
from ..results.folder import RunFolder, choose
from ..terminal import TRAIN
from . import logs

MAY_CHANGE_ON_RESUME = [
    ("train", "epochs"),
    ("train", "checkpoint_steps"),
    ("train", "keep_epochs"),
    ("distribute", "strategy"),
]


@dataclass(frozen=True)
class Request:
    """The options of the command; the attributes are as in `training.loop.run.prepare`."""

    name: str
    overrides: tuple = ()
    run_dir: str | Path | None = None
    resume: bool = False
    new: bool = False
    smoke: bool = False


@dataclass(frozen=True)
class Start:
    """A run that is new or resumed, before its model is built.

    Attributes:
        recipe: `Recipe` in force.
        folder: `RunFolder`.
        splits: `Splits` of the data.
        resume: whether the run is resumed.
    """

    recipe: Recipe
    folder: RunFolder
    splits: Splits
    resume: bool

    @property
    def trains(self):
        """Whether any epochs are left to train."""
        return self.folder.state != "finished" or self.changes_epochs

    @property
    def changes_epochs(self):
        """Whether a resumed run is given a new number of epochs."""
        return self.recipe.train.epochs != recipes.read_of_run(self.folder.recipe).train.epochs


def choose_run(request, world_size):
    """The `RunFolder` of a run and its `Recipe`, as the command asks for them."""
    path = recipes.find(request.name)
    default = Path("runs", f"{path.stem}-smoke" if request.smoke else path.stem)
    base = Path(request.run_dir) if request.run_dir else default
    folder = choose(base, request.resume, request.new)
    overrides = request.overrides
    if request.resume:
        _take(folder, request.resume)
        if not request.smoke:
            _say_what_is_in_force(path, folder)
        path = folder.recipe
        _check_overrides(path, overrides)
    elif request.smoke:
        if world_size > 1:
            raise ValueError(f"A smoke run is for one process. Received: WORLD_SIZE={world_size}")
        overrides = [*smoke_overrides(path, folder.path / "smoke"), *overrides]
    recipe = (recipes.read_of_run if request.resume else recipes.read)(path, overrides)
    logs.check(recipe.log)
    return folder, recipe


def load_splits(recipe, folder, resume, group):
    """The data. The main process alone checks the files, on behalf of all processes."""
    classes = recipe.model.all_arguments().get("num_classes", AUTO)
    load = tasks.of(recipe).load
    if group.is_main:
        splits = load(recipe.data, classes, folder.examples if resume else None)
        if group.world_size > 1 and splits.encoded:
            _take(folder, resume)
            _write_examples(splits, folder)
        group.wait_for_main()
        return splits
    group.wait_for_main()
    return load(recipe.data, classes, folder.examples)


def fingerprint_of(start):
    """The fingerprint of the data; those of a resumed run must match the ones it started with."""
    if not start.trains:
        return {}
    found = fingerprint.of_splits(start.splits)
    if start.resume:
        fingerprint.check(start.folder.data, found, start.splits, start.recipe.data.source)
    return found


def notes_of(start, devices):
    """Prints and returns the notes on settings without effect."""
    recipe, splits = start.recipe, start.splits
    steps = data.steps_per_epoch(splits.train, recipe.train.batch_size)
    notes = settings.check(recipe, splits, steps, devices, start.resume)
    notes += tasks.of(recipe).notes(recipe, splits)
    for note in notes:
        print(f"note: {note}", flush=True)
    return notes


def say_derived(derived, splits):
    """Prints what follows from the data, so that it can be seen and overridden."""
    if derived:
        images = f"{len(splits.train.labels):,} training images"
        values = ", ".join(f"{key}={value}" for key, value in derived.items())
        print(f"from {images}: {values}", flush=True)


def begin(start, done, began_with):
    """Claims the folder and writes the recipe into it, after all checks have passed."""
    recipe, folder, epochs = start.recipe, start.folder, start.recipe.train.epochs
    if start.resume and start.changes_epochs and epochs <= done["epochs"]:
        raise ValueError(
            f"train.epochs must exceed the {done['epochs']} epochs that the run in {folder.path} "
            f"has trained. Received: train.epochs={epochs}"
        )
    _take(folder, start.resume)
    if folder.state == "finished" and epochs > done["epochs"]:
        folder.result.unlink()  # asked to train on: it is unfinished again
    if folder.state != "finished":
        made_by = f"As run by {TRAIN} with keras_vit {keras_vit.__version__}."
        folder.write_whole(folder.recipe, recipes.to_toml(recipe, made_by))
        _write_examples(start.splits, folder)
        if not folder.data.exists():
            folder.write_whole(folder.data, json.dumps(began_with) + "\n")


def _take(folder, resume):
    """Creates the folder and takes its lock."""
    folder.create()
    if lock.acquire(folder.lock) and not resume:
        choose(folder.path, False, False)  # another process may have started a run there meanwhile


def _write_examples(splits, folder):
    """Writes which encoded images the run uses, and which were left out."""
    if not splits.encoded or folder.examples.exists():
        return
    if splits.skipped:
        folder.write_whole(folder.skipped, as_csv(splits.skipped))
        named = printable(folder.skipped)
        print(f"{len(splits.skipped)} broken images are left out; {named} names them")
    save(splits, folder.examples)


def _say_what_is_in_force(path, folder):
    """A resumed run uses the recipe in its folder; says so where the given one was edited."""
    with contextlib.suppress(ValueError):  # the given file may not be a valid recipe any more
        keys = settings.other_keys(recipes.read(path), recipes.read_of_run(folder.recipe))
        if keys:
            said = f"note: the run uses {folder.recipe}, not {path}; they differ in"
            print(said, ", ".join(keys))


def _check_overrides(path, overrides):
    """Raises for an override that would change the result of a resumed run."""
    before = recipes.read_of_run(path)
    for override in overrides:
        table, key, _ = recipes.parse_override(override)
        after = recipes.read_of_run(path, [override])
        if (table, key) not in MAY_CHANGE_ON_RESUME and after != before:
            may = ", ".join(".".join(key) for key in MAY_CHANGE_ON_RESUME)
            raise ValueError(
                f"A resumed run keeps its recipe; only {may} may change. Received: {override}"
            )
