"""The command as a whole: what it imports, prints and returns, as processes see it."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]


def process(*arguments, code=None, **environment):
    """The finished `keras-vit ARGUMENTS`, or CODE, in a process of its own, as after a login."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    command = ["-c", code] if code else ["-m", "keras_vit_command"]
    return subprocess.run(
        [sys.executable, *command, *map(str, arguments)],
        cwd=ROOT,
        env={**known, **environment},
        capture_output=True,
        text=True,
    )


def test_help_and_lists_need_no_keras():
    code = (
        "import sys, keras_vit_command as command\n"
        "try: command.main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'keras_vit.cli' in sys.modules\n"
        "assert not {'keras.src', 'keras_vit.models'} & set(sys.modules)"
    )
    for arguments in (["--help"], ["show", "--help"], ["list", "vit_tiny*"]):
        found = process(*arguments, code=code)
        assert found.returncode == 0 and found.stderr == "", found.stderr
        assert found.stdout


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow alone is talkative")
def test_tensorflow_does_not_talk_over_it(folder, photo):
    found = process("predict", photo, "--model", folder, "--top", 1)
    assert found.returncode == 0 and found.stderr == ""
    assert found.stdout.splitlines()[0] == str(photo) and len(found.stdout.splitlines()) == 2


def test_a_backend_that_fails_to_import_says_so():
    found = process("list", "--models", KERAS_BACKEND="numbers")
    assert found.returncode == 2 and "Unable to import backend : numbers" in found.stderr
    assert "Traceback" not in found.stderr
