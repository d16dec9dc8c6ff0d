"""Every notebook runs from top to bottom, and is stored with its pictures and no one's paths.

By default they train for an epoch or a few, so what they learned is for -m slow.

`python -m tests.test_notebooks notebooks/04_ship.ipynb` runs it and stores what came out.
"""

import os
import re
import sys
from pathlib import Path

import pytest

from tests.helpers import backends

pytestmark = backends("tensorflow")  # a reader's own cells, which know no backend

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


# What is trained for less by default: text of each notebook, and what stands there instead. The
# schedules of 01 and 03 warm up for 100 steps, and need some more.
SHORTER = {
    "01_pixels_to_logits": {"epochs = 30": "epochs = 5"},
    "02_finetune": {
        "epochs=12": "epochs=1",
        "epochs=8": "epochs=1",
        "np.arange(1, 9)": "np.arange(1, 2)",  # of its curves
    },
    "03_attention": {"epochs = 8": "epochs = 1"},
    "04_ship": {"epochs, steps = 6, 6 * 24": "epochs, steps = 1, 24"},
    "05_segment": {"epochs = 6": "epochs = 1"},
    "06_detect": {
        'write("train", 2400)': 'write("train", 320)',
        "epochs = 8": "epochs = 1",
        "steps - 150": "steps - 5",
        "warmup_steps=150": "warmup_steps=5",
    },
}


def executed(path, replaced=None):
    """The notebook after a run, with text of its code replaced; raises where a cell does."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    for text, other in (replaced or {}).items():
        found = [cell for cell in code_cells(notebook) if text in cell.source]
        assert found, f"no cell of {path.name} has {text!r}: see SHORTER"
        for cell in found:
            cell.source = cell.source.replace(text, other)
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


@pytest.fixture
def as_installed(monkeypatch):
    """A notebook's process finds this library."""
    pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@every_notebook
def test_runs(path, as_installed):
    """With the kinds of outputs that are stored, and numbers that need no training."""
    import nbformat

    notebook = executed(path, SHORTER[path.stem])
    stored = nbformat.read(path, as_version=4)
    for cell, expected in zip(code_cells(notebook), code_cells(stored), strict=True):
        assert kinds(cell) == kinds(expected), expected.source
    CHECKS[path.stem](said(notebook), learned=False)


@pytest.mark.slow
@every_notebook
def test_learns(path, as_installed):
    """As it is stored."""
    CHECKS[path.stem](said(executed(path)), learned=True)


def kinds(cell):
    """What a cell shows: text that it prints, pictures, tables, values; no stderr."""
    found = [x for x in cell.outputs if x.get("name") != "stderr"]
    return {(x.output_type, *sorted(x.get("data", {}))) for x in found}


def said(notebook):
    return "".join(
        output["text"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "text" in output
    )


def check_pixels_to_logits(said, learned):
    differences = [float(x) for x in re.findall(r"largest difference[^:]*: (\S+)", said)]
    assert len(differences) == 5 and max(differences) < 1e-4
    accuracy = float(re.search(r"test accuracy (\S+) %", said)[1])
    assert accuracy > 90 or not learned


def check_finetune(said, learned):
    assert "initialised anew: head/dense/bias, head/dense/kernel (num_classes=4)" in said
    assert "resampled: position_embedding/grid" in said
    before, after = map(float, re.search(r"before (\S+) %, after (\S+) %", said).groups())
    scratch = float(re.search(r"from random weights (\S+) %", said)[1])
    if learned:
        assert after > 80 and after > max(before, scratch)  # of four classes; 96 was seen


def check_attention(said, learned):
    found = int(re.search(r"both digits found in (\d+) %", said)[1])
    shares = re.findall(r"first digit +(\d+) %, second +(\d+) %", said)
    rollout, first, second, _, *untrained = [tuple(map(int, pair)) for pair in shares]
    assert abs(rollout[0] - rollout[1]) < 5  # it knows no classes
    assert len(untrained) == 2 and all(abs(a - b) < 5 for a, b in untrained)
    left = re.findall(r"blanked, (?:attribution|rollout|at random): (\d+) % left", said)
    attribution, rolled, random = map(int, left)
    if learned:
        assert found > 70  # 84 were seen
        assert first[0] > 2 * first[1] and second[1] > 2 * second[0]
        assert max(attribution, rolled) < random - 30


def check_ship(said, learned):
    rows = re.findall(r"^(\S+) +(\S+) +[\d.]+ +(\S+) +([\d.]+) %", said, re.MULTILINE)
    precise = [float(difference) for _, kind, difference, _ in rows if kind == "float32"]
    assert len(rows) == 5 and len(precise) == 4 and max(precise) < 5e-3
    assert all(float(top1) > 95 for _, kind, _, top1 in rows if learned or kind == "float32")
    shipped, model = re.findall(r"(?:onnxruntime|the model) says (\w+, [\d.]{5})", said)
    assert shipped == model and "Keras was imported: False" in said


def check_segment(said, learned):
    losses = [float(x) for x in re.findall(r"epoch \d+: loss (\S+),", said)]
    slide, flip, whole = map(float, re.findall(r": mean IoU (\S+) % of the test pictures", said))
    assert float(re.search(r"^mean IoU (\S+) %", said, re.MULTILINE)[1]) == slide
    same = [float(x) for x in re.findall(r"says the same of (\S+) % of the pixels", said)]
    assert same[0] == 100 and same[1] > 99.9  # loaded, and exported
    trained, random = re.findall(r"encoder: IoU of walls (\S+) %, of roofs (\S+) %", said)
    if learned:
        assert losses[-1] < losses[0] / 3
        assert min(slide, flip) > 75 and whole > 65
        assert all(float(a) > float(b) + 5 for a, b in zip(trained, random, strict=True))


def check_detect(said, learned):
    losses = [float(x) for x in re.findall(r"epoch \d+: loss (\S+) ", said)]
    measured = [float(x) for x in re.findall(r"epoch \d+: .*, AP50 (\S+) %", said)]
    precision, at_50 = map(
        float, re.search(r"^AP (\S+) % AP50 (\S+) %", said, re.MULTILINE).groups()
    )
    assert at_50 >= precision and abs(measured[-1] - at_50) < 0.2  # of the callback
    digits = re.findall(r"digit (\d): AP +(\S+) %, AP50 +(\S+) %", said)
    assert [name for name, *_ in digits] == list("01234")
    for column, mean in ((1, precision), (2, at_50)):
        assert abs(sum(float(row[column]) for row in digits) / 5 - mean) < 0.11
    own, even = map(
        int, re.search(r"in the own box: (\d+) %, spread evenly (\d+) %", said).groups()
    )
    assert "[10, 20, 30, 40, 50] finds the same: True" in said
    saved, model = re.findall(r"(?:the SavedModel|the model) finds (\[.*\])", said)
    assert saved == model
    if learned:
        assert losses[-1] < losses[0] / 2
        assert at_50 > 50 and model != "[]"
        assert own > 1.5 * even


CHECKS = {
    "01_pixels_to_logits": check_pixels_to_logits,
    "02_finetune": check_finetune,
    "03_attention": check_attention,
    "04_ship": check_ship,
    "05_segment": check_segment,
    "06_detect": check_detect,
}
PICTURES = {
    "01_pixels_to_logits": 7,
    "02_finetune": 4,
    "03_attention": 7,
    "04_ship": 3,
    "05_segment": 8,
    "06_detect": 7,
}


@every_notebook
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
