"""The command as a whole: what it imports, prints and returns, as processes see it."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_vit
from keras_vit.models.registry import variants
from tests.helpers import once

ROOT = Path(__file__).parents[2]


def process(*arguments, code=None, **environment):
    """The finished `keras-vit ARGUMENTS`, or CODE, in a process of its own, as after a login."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    command = ["-c", code] if code else ["-m", "keras_vit"]
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
        "import sys; sys.argv[0] = '/somewhere/bin/keras-vit'\n"
        "from keras_vit.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'keras_vit.cli' in sys.modules\n"
        "assert not {'keras.src', 'keras_vit.models'} & set(sys.modules)"
    )
    for arguments in (["--help"], ["show", "--help"], ["list", "vit_tiny*"], ["--version"]):
        found = process(*arguments, code=code)
        assert found.returncode == 0 and found.stderr == "", found.stderr
        assert found.stdout
    assert found.stdout == f"keras-vit {keras_vit.__version__}\n"


@once  # Keras imports TensorFlow on other backends too, where it saves a model for example
def test_tensorflow_is_quiet_whoever_imports_it():
    """Looked for before, as by a check of packages."""
    code = (
        "import importlib.util, sys; sys.argv[0] = 'keras-vit'\n"
        "from keras_vit.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert importlib.util.find_spec('tensorflow').origin\n"
        "import tensorflow\n"
        "print(tensorflow.constant(3).numpy())"
    )
    found = process("--version", code=code)
    assert found.returncode == 0 and found.stdout.endswith("\n3\n") and found.stderr == ""


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
    code = (
        "import sys; sys.argv[0] = 'keras-vit'; sys.modules['jax'] = None\n"
        "from keras_vit.__main__ import main; main()"
    )
    found = process("list", "--models", code=code, KERAS_BACKEND="jax")
    assert found.returncode == 2 and "Expected: pip install jax, or another" in found.stderr
    assert "tensorflow is installed: set KERAS_BACKEND=tensorflow" in found.stderr
    assert "jax is installed" not in found.stderr and "Traceback" not in found.stderr


@once  # it names the backend itself
def test_an_import_without_the_backend_names_one_that_is_installed(tmp_path):
    """With the extra `jax` alone Keras takes TensorFlow where nobody says another."""
    code = "import sys; sys.modules['tensorflow'] = sys.modules['torch'] = None\nimport keras_vit"
    found = process(code=code, KERAS_BACKEND="tensorflow", KERAS_HOME=str(tmp_path))
    assert found.returncode == 1
    said = found.stderr.splitlines()[-1]
    assert said.startswith("ImportError: The backend of Keras is not installed. jax is installed: ")
    assert "set KERAS_BACKEND=jax. Expected: pip install tensorflow" in said
    assert "keras/src" not in found.stderr  # no page of Keras's files before it
    code = "import sys; sys.modules['ml_dtypes'] = None; import keras_vit"
    found = process(code=code, KERAS_BACKEND="torch")
    assert "ml_dtypes" in found.stderr.splitlines()[-1] and "is installed" not in found.stderr


@once  # its Keras is broken
def test_a_bug_shows(tmp_path):
    """What is nobody's wrong call is not made one, and what was written before it is not lost."""
    (tmp_path / "keras").mkdir()
    text = "import os; os.write(2, b'spoken before'); raise RuntimeError('broken')"
    (tmp_path / "keras" / "__init__.py").write_text(text)
    found = process("list", "--models", PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert found.returncode == 1 and "spoken before" in found.stderr
    assert "Traceback" in found.stderr and "RuntimeError: broken" in found.stderr


@once
def test_only_the_command_waits():
    """Whoever imports the package has every registered class, whatever his program is called."""
    names = "'/bin/python', 'keras-vit.py', '/a/keras-vit/main', '', '-c', '-m'"
    code = (
        f"import sys\nfor name in [{names}]:\n"
        "    sys.argv[0] = name\n"
        "    import keras_vit, keras_vit.waiting as w; assert not w._is_command(), name\n"
        "    assert 'ViTBase' in vars(keras_vit), name\n"
        "for name in ['/usr/bin/keras-vit', 'keras-vit', 'keras-vit.exe']:\n"
        "    sys.argv[0] = name; assert w._is_command()"
    )
    found = process(code=code)
    assert found.returncode == 0, found.stderr


@once
def test_variants_of_every_family_are_known_before_a_model_is_needed():
    code = (
        "import sys; sys.argv[0] = 'keras-vit'\n"
        "from keras_vit.checkpoints.variants import find_variant\n"
        f"assert all(find_variant(x) == x for x in {list(variants())})\n"
        "import keras_vit; assert 'ViTBase' not in vars(keras_vit)"  # it waits still
    )
    found = process(code=code)
    assert found.returncode == 0, found.stderr
