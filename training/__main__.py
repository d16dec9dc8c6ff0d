"""python -m training RECIPE: the command line around `training.run`."""

import argparse
import contextlib
import os
import sys

EXAMPLES = """examples:
  python -m training digits                       train into runs/digits
  python -m training digits --resume              go on after a stop, to the same result
  python -m training digits --new                 train again, into runs/digits-2
  python -m training digits --set train.epochs=20 --set model.depth=4
  python -m training my_recipe.toml --run-dir /tmp/run
  KERAS_BACKEND=jax python -m training digits     on another backend
"""


def main(arguments=None):
    """Runs the command; returns its exit code: 0 done, 1 diverged, 2 for a mistake of the user."""
    options = _parser().parse_args(arguments)
    with _quiet():
        from training import run
        from training.callbacks import Diverged

    try:
        job = run.prepare(options.recipe, options.set, options.run_dir, options.resume, options.new)
    except ValueError as error:
        return _fail(error, 2)
    if job.finished:
        print(f"{job.folder.path} is finished; raise train.epochs to train on.")
        return _show(job.folder)
    try:
        run.execute(job)
    except Diverged as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail(f"stopped; go on with --resume. Received: Ctrl-C in {job.folder.path}", 130)
    return _show(job.folder)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Trains a Vision Transformer by a recipe, through tf.data and model.fit.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", help="a name in training/recipes, or a path to a .toml file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change one value"
    )
    parser.add_argument("--run-dir", metavar="DIR", help="run folder (default: runs/RECIPE)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    choice.add_argument("--new", action="store_true", help="take the next free folder")
    return parser


@contextlib.contextmanager
def _quiet():
    """Keeps what TensorFlow's C++ says on being imported off the terminal; no setting does."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _show(folder):
    result = folder.read_result()
    print(
        f"Test accuracy {100 * result['test_accuracy']:.2f} % on {result['test_images']} images "
        f"after {result['epochs']} epochs. Everything is in {folder.path}"
    )
    return 0


def _fail(error, code):
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
