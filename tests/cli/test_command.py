"""The command as a whole: what it imports, prints and returns, as processes see it."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from tests.helpers import once

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


@once  # which backend is not asked
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


@once  # it names the backends itself
def test_a_backend_that_is_none_or_not_installed():
    found = process("list", "--models", KERAS_BACKEND="numbers")
    assert found.returncode == 2 and "Unable to import backend : numbers" in found.stderr
    assert "Traceback" not in found.stderr
    code = "import sys, keras_vit_command as c; sys.modules['jax'] = None; c.main()"
    found = process("list", "--models", code=code, KERAS_BACKEND="jax")
    assert found.returncode == 2 and "Expected: pip install jax, or another" in found.stderr
    assert "Traceback" not in found.stderr


@once  # its Keras is broken
def test_a_bug_shows(tmp_path):
    """What is nobody's wrong call is not made one, and what was written before it is not lost."""
    (tmp_path / "keras").mkdir()
    text = "import os; os.write(2, b'spoken before'); raise RuntimeError('broken')"
    (tmp_path / "keras" / "__init__.py").write_text(text)
    found = process("list", "--models", PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert found.returncode == 1 and "spoken before" in found.stderr
    assert "Traceback" in found.stderr and "RuntimeError: broken" in found.stderr
