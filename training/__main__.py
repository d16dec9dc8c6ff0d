"""python -m training RECIPE: the command line of `training.loop.run`."""

import argparse
import sys

from .terminal import TRAIN, fail, packages, quiet, say

EXAMPLES = f"""examples:
  {TRAIN} digits                       train into runs/digits
  {TRAIN} digits --resume              resume a stopped run, to the same result
  {TRAIN} digits --new                 train again, into runs/digits-2
  {TRAIN} deit3 --smoke                try a recipe in ten steps, without its data
  {TRAIN} digits --set train.epochs=20 --set model.depth=4
  {TRAIN} my_recipe.toml --run-dir /tmp/run
  KERAS_BACKEND=jax {TRAIN} digits     on another backend
"""


def main(arguments=None):
    """Runs the command.

    Returns:
        The exit code: 0 for success, 1 if training diverged or ran out of memory or disk space, 2
        for a user error, 130 and 143 if it was stopped by a signal.
    """
    options = _parser().parse_args(arguments)
    with packages(end=True), quiet():
        from .devices.process_group import ProcessGroup
        from .loop.stopping import StopRequest

    with StopRequest().listening() as stop:
        try:
            group = ProcessGroup.from_environment(stop)
        except ValueError as error:
            return fail(error, 2)
        code = _run(options, stop, group)
    if group.world_size > 1 and group.is_main:
        group.end(code)
    return code


def _run(options, stop, group):
    """Prepares and executes; returns the exit code."""
    with packages(end=True), quiet():
        from .devices import memory
        from .loop import run
        from .loop.checkpoint_file import describe
        from .loop.stopping import Diverged, Stopped
        from .results import lock

    job = None
    try:
        job = run.prepare(
            options.recipe,
            options.set,
            options.run_dir,
            options.resume,
            options.new,
            options.smoke,
            stop,
            group,
        )
        if job.finished and group.is_main:
            say(f"{job.folder.path} is finished; raise train.epochs to train on.")
        else:
            run.execute(job)
    except (Stopped, OSError) as error:
        if memory.is_out_of_memory(error):
            return _no_memory(error, job)
        if error is stop.asked and not group.is_main:
            group.wait_for_end()  # the main process writes and prints it
        stopped = isinstance(error, Stopped)
        what = error if stopped else f"{type(error).__name__}: {error}"
        said = "nothing was trained"
        if job:
            said = f"{describe(job.folder.checkpoint)}; go on with --resume"
        return fail(f"stopped; {said}. Received: {what}", 128 + error.signal if stopped else 1)
    except Diverged as error:
        if not group.is_main:
            group.wait_for_end()  # the main process prints it
        return fail(error, 1)
    except Exception as error:
        if not job and isinstance(error, (ImportError, ValueError)):
            return fail(error, 2)
        if memory.is_out_of_memory(error):
            return _no_memory(error, job)
        group.give_time()
        raise
    finally:
        if job:
            lock.release(job.folder.lock)
    return _show(job)


def _no_memory(error, job):
    """Prints which settings would fit into memory; returns the exit code."""
    from .devices import memory

    said = "The run ended before its first step: the data or the model may be too large."
    if job:
        said = memory.advice(job.model, job.recipe.train.batch_size)
    return fail(f"There was not enough memory. {said} Received: {type(error).__name__}", 1)


def _parser():
    parser = argparse.ArgumentParser(
        prog=TRAIN,
        description="Trains a Vision Transformer by a recipe, with tf.data and model.fit.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "recipe", help="the name of a recipe of the library, or a path to a .toml file"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change one value"
    )
    parser.add_argument("--run-dir", metavar="DIR", help="run folder (default: runs/RECIPE)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--resume", action="store_true", help="resume the run in the folder")
    choice.add_argument("--new", action="store_true", help="take the next free folder")
    parser.add_argument(
        "--smoke", action="store_true", help="ten steps of a small model on embedded images"
    )
    return parser


def _show(job):
    from . import tasks

    folder = job.folder
    say(f"{tasks.of(job.recipe).summary(folder.read_result())}. Everything is in {folder.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
