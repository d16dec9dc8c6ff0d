"""The snippets of the README and of the pages in docs/ run, and their commands exist.

A page's snippets run one after the other, as a reader would copy them, in a folder that has the
files that they name. Models are small and published weights are stand-ins of the same form; nothing
else differs. What `keras_vit.export` writes is tested by test_export.py, and here by slow tests.
"""

import contextlib
import functools
import importlib
import inspect
import json
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from benchmarks.readme import ROOT, pages
from keras_vit.checkpoints import load
from keras_vit.checkpoints.catalog import catalog
from keras_vit.checkpoints.readers.open import open_file
from keras_vit.checkpoints.variants import best_checkpoint, find_variant
from keras_vit.export.formats import FORMATS, format_of
from keras_vit.models.registry import FAMILIES, TASKS
from tests.helpers import once

PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in pages()}
# A block of Python, and what the comment before it says.
BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?```python\n(.*?)```", re.DOTALL)
# Marked blocks of the page about serving need files and servers: test_serving.py has them.
SERVING = {"client", "onnx", "litert", "openvino", "torch"}

VIT = dict(width=16, num_heads=2, mlp_dim=32, depth=2)
STAGES = dict(
    widths=(8, 16, 16, 16), num_heads=(1, 2, 2, 2), mlp_ratios=(2, 2, 2, 2), depths=(1, 1, 1, 1)
)
SMALL = {
    "vit": VIT,
    "deit": VIT,
    "hybrid": VIT | dict(depth=1, stem_width=8, stem_groups=4),
    "cait": VIT | dict(depth=1),
    "swin": dict(width=8, num_heads=(1, 2, 4, 8), depths=(2, 1, 1, 1)),
    "pvt": STAGES,
    "pvt_v2": STAGES,
    "resnet": dict(widths=(16, 16, 16, 16), depths=(1, 1, 1, 1), stem_width=8),
}
# What the pages name beside the catalogue: the variant, and what its source says.
OTHERS = {
    "google/vit-base-patch16-224": ("ViTBase", {}),
    "facebook/dinov2-base": ("ViTBase", dict(patch_size=14, image_size=518, num_classes=None)),
    "facebook/dinov2-small": ("ViTSmall", dict(patch_size=14, image_size=518, num_classes=None)),
    "B_16.npz": ("ViTBase", dict(num_classes=21843)),
    "deit_tiny_patch16_224-a1311bcf.pth": ("ViTTiny", {}),
}
# Checkpoints of training tools: the heads of the model, and the path to each copy of its tensors.
TRAINING_FILES = {
    "checkpoint.pth": (12, ["state_dict.", "state_dict_ema."]),
    "dino_full.pth": (6, ["student.module.backbone.", "teacher.backbone."]),
    "moco.pth.tar": (
        12,
        ["state_dict.module.base_encoder.", "state_dict.module.momentum_encoder."],
    ),
}


def blocks(name):
    """The snippets of a page that run on this backend."""
    found = []
    for mark, code in BLOCK.findall(PAGES[name]):
        kind, _, backend = mark.partition(": ")
        if mark in SERVING or kind == "backend" and backend != keras.backend.backend():
            continue
        if not code.startswith(">>>"):  # what is printed; test_readme.py compares shapes
            found.append(code)
    return found


WITH_SNIPPETS = [
    pytest.param(name, marks=[] if "<!-- backend: " in text else once)
    for name, text in PAGES.items()
    if BLOCK.search(text)
]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A function from a published source to a folder of the same form, written once."""
    folder = tmp_path_factory.mktemp("published")

    @functools.cache
    def find(source):
        if source in TRAINING_FILES:
            return training_file(folder / source, *TRAINING_FILES[source])
        if variant := find_variant(source):
            source = best_checkpoint(variant)
        entry = catalog().get(source.removeprefix("timm/"))
        if entry is None and source not in OTHERS:
            return source
        if entry is None:
            variant, arguments = OTHERS[source]
        else:
            variant = entry.variant
            arguments = dict(image_size=entry.image_size, num_classes=entry.num_classes or None)
        model = smaller(variant)(
            preprocessor=keras_vit.Preprocessor(arguments.get("image_size", 224)), **arguments
        )
        path = folder / source.replace("/", "_").replace(".", "_")
        keras_vit.save_pretrained(model, path, format="keras")
        return path

    return find


def training_file(path, num_heads, copies):
    """Writes the tensors of a small ViT into nested dicts, a copy under each path."""
    import torch

    model = keras_vit.ViTTiny(
        **VIT | dict(width=48, num_heads=num_heads, num_classes=None),
        preprocessor=keras_vit.Preprocessor(224),
    )
    folder = path.with_name(f"{path.name}_timm")
    keras_vit.save_pretrained(model, folder, format="timm")
    with contextlib.closing(open_file(folder / "model.safetensors")) as file:
        tensors = {name: torch.tensor(np.array(file.read(name))) for name in file.tensors}
    content = {"epoch": 3}
    for copy in copies:
        part, _, prefix = copy.partition(".")
        content.setdefault(part, {}).update((prefix + name, x) for name, x in tensors.items())
    torch.save(content, path)
    return path


def smaller(variant):
    """A variant that is built with little width; ViTBase is as deep as it is: pages name blocks."""
    (family,) = [x for x in FAMILIES.values() if variant in x.variants]
    small = SMALL[family.name] | (dict(depth=12) if variant == "ViTBase" else {})
    return functools.partial(family.variants[variant], **small)


@pytest.fixture
def small(monkeypatch, stand_in):
    """Everything that the pages name is small, and nothing is downloaded."""
    for family in FAMILIES.values():
        for variant in family.variants:
            monkeypatch.setattr(keras_vit, variant, smaller(variant))
    locate = load.locate
    monkeypatch.setattr(load, "locate", lambda source: locate(stand_in(str(source))))
    monkeypatch.setattr(keras.applications, "ResNet50", resnet)
    monkeypatch.setattr(keras.applications, "MobileNetV2", mobilenet)


@pytest.fixture
def nothing_is_written(monkeypatch):
    """`keras_vit.export` looks at its arguments."""
    signature = inspect.signature(keras_vit.export)

    def export(*args, **kwargs):
        given = signature.bind(*args, **kwargs).arguments
        assert given.get("format", format_of(Path(given["path"]))) in FORMATS

    monkeypatch.setattr(keras_vit, "export", export)


def resnet():
    """What takes pictures and gives 1000 probabilities."""
    images = keras.Input((224, 224, 3))
    x = keras.layers.GlobalAveragePooling2D()(images)
    return keras.Model(images, keras.layers.Dense(1000, "softmax")(x))


def mobilenet(include_top, input_shape):
    """What takes images and gives a map of 7 x 7 places."""
    images = keras.Input(input_shape)
    return keras.Model(images, keras.layers.Conv2D(8, 32, 32)(images), name="cnn")


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """The current folder, with the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    photos = [f"photos/{name}/{i}.jpg" for name in ("cat", "dog") for i in range(1, 6)]
    for path in ("cat.jpg", "dog.jpg", "china.jpg", *photos):
        Image.fromarray(rng.integers(0, 256, (60, 80, 3)).astype("uint8")).save(path)
    Image.fromarray(rng.integers(0, 65536, (60, 80)).astype("uint16")).save("scan16.png")


@pytest.mark.filterwarnings("error:The model does not have any trainable weights")
@pytest.mark.parametrize("name", WITH_SNIPPETS)
def test_snippets_run(name, small, nothing_is_written, folder, rng):
    run(name, rng)


@once
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path", "labels"),
    [
        ("README.md", "saved_model/saved_model.pb", "saved_model/assets.extra/labels.json"),
        ("docs/start.md", "photos.onnx", "photos.labels.json"),
    ],
)
def test_the_first_page_ends_with_a_file(name, path, labels, small, folder, rng):
    run(name, rng)
    assert Path(path).exists() and json.loads(Path(labels).read_text()) == ["cat", "dog"]


def run(name, rng):
    """All snippets of a page, with what they take for granted."""
    known = {
        "keras": keras,
        "keras_vit": keras_vit,
        "pixels": rng.integers(0, 256, (4, 224, 224, 3)).astype("float32"),
        "images": rng.uniform(-1, 1, (4, 224, 224, 3)).astype("float32"),
        "wide_images": rng.uniform(-1, 1, (2, 256, 320, 3)).astype("float32"),
        "labels": np.array([0, 1, 1, 0]),
    }
    known["batches"] = [(known["pixels"], known["labels"])]
    if name in HAVE_A_MODEL:
        known["model"] = keras_vit.from_pretrained("google/vit-base-patch16-224")
    for code in blocks(name):
        exec(compile(code, name, "exec"), known)


HAVE_A_MODEL = ("docs/interpret.md", "docs/export.md", "docs/serving.md")  # and say nothing of it


MODULES = ["keras_vit", *(f"keras_vit.{x}" for x in ("layers", "losses", "metrics", "optimizers"))]


@once
@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_documented_once(module):
    text = "".join(text for name, text in PAGES.items() if name.startswith("docs/api/"))
    kinds = r"(?:auto(?:class|function)|py:function)"  # the last for another name of a function
    found = re.findall(rf"^\.\. {kinds}:: {module}\.(\w+)(?:\(.*\))?$", text, re.M)
    if module == "keras_vit":
        families = {x.title: x for x in [*FAMILIES.values(), *TASKS.values()]}
        for title in re.findall(r"^```{variants} (\w+)$", text, re.M):
            found += families[title].variants
    public = vars(importlib.import_module(module))
    own = [x for x, value in public.items() if getattr(value, "__module__", "") == module]
    names = [x for x in public.get("__all__", own) if not x.startswith("_")]
    modules = {x for x in names if inspect.ismodule(public[x])}
    assert sorted(found) == sorted(set(names) - modules)


COMMANDS = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def commands(name):
    """The lines of a page's shells, as lists of words."""
    for code in COMMANDS.findall(PAGES[name]):
        for line in code.replace("\\\n", " ").splitlines():
            yield shlex.split(line, comments=True)


@once
@pytest.mark.parametrize("name", [x for x in PAGES if COMMANDS.search(PAGES[x])])
def test_commands_exist(name):
    snapshots = ROOT / "tests" / "snapshots"
    known, same, title = {}, {}, None
    for line in (snapshots / "commands.txt").read_text("utf-8").splitlines():
        if line.startswith("# "):
            title = line[2:]
        elif line.startswith("those of "):
            same[title] = line.removeprefix("those of ")
        known.setdefault(title, set()).update(re.findall(r"(?<!\S)--?[\w-]+", line))
    known |= {title: known[other] for title, other in same.items()}
    sections = re.split(r"^\[(\w+)\]\n", (snapshots / "recipes.txt").read_text("utf-8"), flags=re.M)
    keys = {
        name: set(re.findall(r"^(\w+):", text, re.M))
        for name, text in zip(sections[1::2], sections[2::2], strict=True)
    }
    keys["model"] = {"variant", *inspect.signature(keras_vit.VisionTransformer).parameters}
    for words in commands(name):
        start = next((x for x in sorted(known, key=len)[::-1] if starts(words, x)), None)
        if start is None:
            assert words[:1] != ["keras-vit"] and words[:2] != ["python", "-m"], words
            continue
        options = [x.partition("=")[0] for x in words if re.fullmatch(r"-(-[\w-]+|\w)(=.*)?", x)]
        assert set(options) - {"-m"} <= known[start], (words, known[start])
        for option, value in zip(words, words[1:], strict=False):
            if option == "--set":
                section, _, key = value.partition("=")[0].partition(".")
                assert key in keys[section], value


def starts(words, command):
    return words[: len(command.split())] == command.split()
