"""How a run begins or goes on: which folder, recipe and data it has, all of it checked."""

import contextlib
import json
from pathlib import Path

import keras_vit
from keras_vit.terminal import printable
from training import data, recipe
from training.data import fingerprint
from training.data.corrupt import as_csv
from training.data.examples import save
from training.loop import logs
from training.recipe import settings
from training.recipe.smoke import overrides as smoke_overrides
from training.results import lock
from training.results.folder import choose

MAY_CHANGE_ON_RESUME = [
    ("train", "epochs"),
    ("train", "checkpoint_steps"),
    ("train", "keep_epochs"),
    ("distribute", "strategy"),
]


def folder_and_plan(name, overrides, run_dir, resume, new, smoke, processes):
    """The folder of a run and its recipe, as the command asks for them."""
    path = recipe.find(name)
    default = Path("runs", f"{path.stem}-smoke" if smoke else path.stem)
    folder = choose(Path(run_dir) if run_dir else default, resume, new)
    if resume:
        _take(folder, resume)
        if not smoke:
            _say_what_is_in_force(path, folder)
        path = folder.recipe
        _check_overrides(path, overrides)
    elif smoke:
        if processes.count > 1:
            raise ValueError(
                f"A smoke run is for one process. Received: WORLD_SIZE={processes.count}"
            )
        overrides = [*smoke_overrides(path, folder.path / "smoke"), *overrides]
    plan = (recipe.read_of_run if resume else recipe.read)(path, overrides)
    logs.check(plan.log)
    return folder, plan


def splits_of(plan, folder, resume, processes):
    """The data; of many files the first process looks through them, for all."""
    classes = plan.model.all_arguments()["num_classes"]
    if processes.first:
        splits = data.load(plan.data, classes, folder.examples if resume else None)
        if processes.count > 1 and splits.encoded:
            _take(folder, resume)
            _write_examples(splits, folder)
        processes.wait_for_first()
        return splits
    processes.wait_for_first()
    return data.load(plan.data, classes, folder.examples)


def begun_with(folder, plan, splits, resume):
    """What the data are known by; where a run goes on they must be those that it began with."""
    if not trains(folder, plan):
        return {}
    found = fingerprint.of_splits(splits)
    if resume:
        fingerprint.check(folder.data, found, splits, plan.data.source)
    return found


def trains(folder, plan):
    """Whether there is anything left to train in the folder by this recipe."""
    return folder.state != "finished" or _asked_for_more(folder, plan)


def notes_of(plan, splits, devices, resume):
    """Notes on settings without effect; prints them too."""
    steps = data.steps_per_epoch(splits.train, plan.train.batch_size)
    notes = settings.check(plan, splits, steps, devices, resume)
    for note in notes:
        print(f"note: {note}", flush=True)
    return notes


def _asked_for_more(folder, plan):
    """Whether a run that goes on is to have another number of epochs."""
    return plan.train.epochs != recipe.read_of_run(folder.recipe).train.epochs


def begin(folder, plan, splits, resume, done, began_with):
    """Makes the folder that of this run, once all that can be checked has been."""
    if resume and _asked_for_more(folder, plan) and plan.train.epochs <= done["epochs"]:
        raise ValueError(
            f"train.epochs must exceed the {done['epochs']} epochs that the run in {folder.path} "
            f"has behind it. Received: train.epochs={plan.train.epochs}"
        )
    _take(folder, resume)
    if folder.state == "finished" and plan.train.epochs > done["epochs"]:
        folder.result.unlink()  # asked to train on: it is unfinished again
    if folder.state != "finished":
        made_by = f"As run by python -m training with keras_vit {keras_vit.__version__}."
        folder.write_whole(folder.recipe, recipe.to_toml(plan, made_by))
        _write_examples(splits, folder)
        if not folder.data.exists():
            folder.write_whole(folder.data, json.dumps(began_with) + "\n")


def _take(folder, resume):
    """Makes the folder, and it this process' own."""
    folder.create()
    if lock.hold(folder.lock) and not resume:
        choose(folder.path, False, False)  # another may have begun a run there meanwhile


def _write_examples(splits, folder):
    """Keeps which images of many files a run uses, and which it does not."""
    if not splits.encoded or folder.examples.exists():
        return
    if splits.skipped:
        folder.write_whole(folder.skipped, as_csv(splits.skipped))
        named = printable(folder.skipped)
        print(f"{len(splits.skipped)} broken images are left out; {named} names them")
    save(splits, folder.examples)


def _say_what_is_in_force(path, folder):
    """Of a run that goes on the recipe in its folder counts, not what was edited meanwhile."""
    with contextlib.suppress(ValueError):  # a file that is no recipe any more says nothing
        keys = settings.other_keys(recipe.read(path), recipe.read_of_run(folder.recipe))
        if keys:
            print(f"note: {folder.recipe} counts, not {path}; they differ in {', '.join(keys)}")


def _check_overrides(path, overrides):
    """Raises where they change what a run's recipe says of its result; the same again may stand."""
    before = recipe.read_of_run(path)
    for override in overrides:
        table, key, _ = recipe.parse_override(override)
        after = recipe.read_of_run(path, [override])
        if (table, key) not in MAY_CHANGE_ON_RESUME and after != before:
            may = ", ".join(".".join(key) for key in MAY_CHANGE_ON_RESUME)
            raise ValueError(
                f"A resumed run keeps its recipe; only {may} may change. Received: {override}"
            )
