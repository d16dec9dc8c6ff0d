"""Every notebook runs from top to bottom, and is stored with its pictures and no one's paths.

`python -m tests.test_notebooks notebooks/04_ship.ipynb` runs it and stores what came out.
"""

import os
import re
import sys
from pathlib import Path

import keras
import pytest

# Once is enough by default; with -m slow the other backends do it too.
pytestmark = [] if keras.backend.backend() == "tensorflow" else [pytest.mark.slow]

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def executed(path):
    """The notebook after a run; raises where a cell does."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": path.parent}}
    nbclient.NotebookClient(notebook, timeout=600, resources=folder, record_timing=False).execute()
    return notebook


def store(path):
    """Runs a notebook and writes it with what came out, without what libraries tell stderr."""
    import nbformat

    notebook = executed(path)
    for cell in code_cells(notebook):
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, monkeypatch):
    pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = executed(path)
    said = "".join(
        output["text"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "text" in output
    )
    CHECKS[path.stem](said)


def check_pixels_to_logits(said):
    differences = [float(x) for x in re.findall(r"largest difference[^:]*: (\S+)", said)]
    assert len(differences) == 5 and max(differences) < 1e-4
    assert float(re.search(r"test accuracy (\S+) %", said)[1]) > 90


def check_finetune(said):
    assert "initialised anew: head/dense/bias, head/dense/kernel (num_classes=2)" in said
    assert "resampled: position_embedding/grid" in said
    before, after = map(float, re.search(r"before (\S+) %, after (\S+) %", said).groups())
    scratch = float(re.search(r"from random weights (\S+) %", said)[1])
    assert after > 70 and after > max(before, scratch)  # of two classes; 84 to 92 were seen


def check_attention(said):
    assert int(re.search(r"both digits found in (\d+) %", said)[1]) > 70  # 84 were seen
    shares = re.findall(r"first digit +(\d+) %, second +(\d+) %", said)
    rollout, first, second, _, *untrained = [tuple(map(int, pair)) for pair in shares]
    assert abs(rollout[0] - rollout[1]) < 5  # it knows no classes
    assert first[0] > 2 * first[1] and second[1] > 2 * second[0]
    assert len(untrained) == 2 and all(abs(a - b) < 5 for a, b in untrained)
    left = re.findall(r"blanked, (?:attribution|rollout|at random): (\d+) % left", said)
    attribution, rolled, random = map(int, left)
    assert max(attribution, rolled) < random - 30


def check_ship(said):
    rows = re.findall(r"^(\S+) +(\S+) +[\d.]+ +(\S+) +([\d.]+) %", said, re.MULTILINE)
    precise = [float(difference) for _, kind, difference, _ in rows if kind == "float32"]
    assert len(rows) == 5 and len(precise) == 4 and max(precise) < 5e-3
    assert all(float(top1) > 95 for *_, top1 in rows)
    shipped, model = re.findall(r"(?:onnxruntime|the model) says (\w+, [\d.]{5})", said)
    assert shipped == model and "Keras was imported: False" in said


CHECKS = {
    "01_pixels_to_logits": check_pixels_to_logits,
    "02_finetune": check_finetune,
    "03_attention": check_attention,
    "04_ship": check_ship,
}
PICTURES = {"01_pixels_to_logits": 7, "02_finetune": 4, "03_attention": 7, "04_ship": 3}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_as_it_ran(path):
    notebook = pytest.importorskip("nbformat").read(path, as_version=4)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    pictures = [
        o for cell in code_cells(notebook) for o in cell.outputs if "image/png" in o.get("data", {})
    ]
    assert len(pictures) >= PICTURES[path.stem]
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr"
            assert not re.search(r"(^|[\s'\"=])/", output.get("text", ""))  # nobody's paths


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        store(Path(name).resolve())
