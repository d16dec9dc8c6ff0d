"""Damages files at random and counts what becomes of them, by format.

    KERAS_BACKEND=torch python -m tests.checkpoints.fuzz --mutations 2000 --seed 0

prints a table of formats and outcomes. Outcomes are: "refused", with one `CheckpointError` that
names the file; "same", the numbers of the whole file; "other", which only formats without a
checksum may give; and for configurations "built", a model. Everything else is an error. Memory and
processor time are limited by the system: who exceeds them ends.
"""

import argparse
import collections
import io
import json
import resource
import shutil
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np

import keras_vit
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.matching import choose
from keras_vit.checkpoints.readers.open import open_file
from keras_vit.checkpoints.vit.read import infer
from tests.checkpoints.helpers import GOLDEN
from tests.helpers import tiny_cait, tiny_hybrid, tiny_swin, tiny_vit

MODELS = {"vit": tiny_vit, "swin": tiny_swin, "hybrid": tiny_hybrid, "cait": tiny_cait}
# kind: a file whose bytes are damaged
FILES = {
    "safetensors": "checkpoints/timm_vit/model.safetensors",
    "npz": "checkpoints/vt_token_published/model.npz",
    "torch": "checkpoints/torch_zip/model.pth",
    "legacy_torch": "checkpoints/torch_legacy/model.pth",
    "bin": "checkpoints/torch_half/pytorch_model.bin",
    "index": "checkpoints/hf_sharded/model.safetensors.index.json",
    "weights.h5": None,
    "keras": None,
}
# kind: a member of a zip that is damaged, its checksum made right again
MEMBERS = {
    "torch, pickle": ("torch", "/data.pkl"),
    "npz, array": ("npz", ".npy"),
    "keras, weights": ("keras", "model.weights.h5"),
}
# kind: a folder and the configuration in it whose values are damaged
CONFIGS = {
    "config of timm": ("checkpoints/timm_vit", "config.json"),
    "config of transformers": ("checkpoints/hf_vit", "config.json"),
    "preprocessor_config": ("checkpoints/hf_vit", "preprocessor_config.json"),
    "config of CLIP": ("checkpoints/hf_clip_both", "config.json"),
    "config of Swin, timm": ("swin/timm_swin", "config.json"),
    "config of Swin, transformers": ("swin/hf_swin", "config.json"),
    "config of PVT": ("pyramids/hf_v1", "config.json"),
    "config of PVT v2, timm": ("pyramids/timm_v2", "config.json"),
    "config of CaiT": ("cait/timm", "config.json"),
    "config of a hybrid": ("hybrid/timm_resnet", "config.json"),
    "config of a preset": ("swin/kh_swin", "config.json"),
    "task of a preset": ("checkpoints/kh_vit", "task.json"),
    "image_converter": ("checkpoints/kh_vit", "image_converter.json"),
    **{f"keras, config of {name}": (name, "config.json") for name in MODELS},
}
OVERRIDES = {
    "config of a hybrid": {"num_heads": 4, "stem_groups": 4}
}  # which the golden one does not say
KINDS = (*FILES, *MEMBERS, *CONFIGS)
WITHOUT_CHECKSUM = ("safetensors", "legacy_torch", "index", "weights.h5", *MEMBERS)
CPU_SECONDS = 20  # for one file; most take a thousandth


def mutate(data, rng):
    """One of what happens to files: bits flip, ends are missing, parts repeat, numbers grow."""
    data = bytearray(data)
    kind = rng.integers(6)
    # most of what a file says of itself stands at its two ends
    near = int(rng.integers(min(len(data), 4000)))
    at = [near, len(data) - 1 - near, int(rng.integers(len(data)))][rng.integers(3)]
    if kind == 0:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at : at + 8] = rng.bytes(8)
    elif kind == 3:
        data[at:at] = data[at : at + int(rng.integers(1, 64))]
    elif kind == 4:
        data[at : at + 4] = b"\xff\xff\xff\x7f"
    else:
        del data[at : at + int(rng.integers(1, 16))]
    return bytes(data)


NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    7,
    32,
    10**4,
    10**6,
    10**9,
    2**62,
    2**63,
    10**18,
    0.5,
    32.0,
    -1e-6,
    1e-300,
)
STRANGE = (
    None,
    True,
    False,
    "",
    "32",
    "a",
    "gelu",
    [],
    [32],
    [32, 32],
    [1, 2, 3],
    [[]],
    {},
    {"a": 1},
)
CLASSES = (
    {"class_name": "Dense", "module": "keras.layers", "config": {"units": 10**9}},
    {"class_name": "Lambda", "module": "keras.layers", "config": {"function": "os.system"}},
)
WORDS = ('{"a": NaN}', "Infinity", "1e999", "9" * 400, "[" * 2000 + "]" * 2000)


def mutate_json(data, rng):
    """JSON of which one value, anywhere in it, is another, missing, or there twice."""
    if rng.integers(8) == 0:
        return mutate(data, rng)
    value = json.loads(data)
    places, level = [], [value]
    while level:
        inner = level.pop()
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        places += [(inner, key) for key in keys]
        level += [inner[key] for key in keys if isinstance(inner[key], (dict, list))]
    inner, key = places[rng.integers(len(places))]
    mark, kind = "a mark that no file has", rng.integers(8)
    if kind == 0:
        del inner[key]
    elif kind == 1 and isinstance(inner, dict):
        inner["unknown " + str(key)] = inner[key]
    elif kind == 2 and isinstance(inner[key], list):
        inner[key] *= int(rng.integers(2, 100))
    elif kind == 3:
        inner[key] = mark
        word = WORDS[rng.integers(len(WORDS))]
        return json.dumps(value).replace(json.dumps(mark), word).encode()
    elif kind == 4 and isinstance(inner, dict):
        twice = inner[key]
        inner[mark] = twice
        return json.dumps(value).replace(json.dumps(mark), json.dumps(key)).encode()
    else:
        choices = (*NUMBERS, *STRANGE, *CLASSES)
        inner[key] = choices[rng.integers(len(choices))]
    return json.dumps(value).encode()


def whole_file(kind, folder):
    """A whole file of a kind, the only one in its folder but for what belongs to it."""
    if kind in MEMBERS:
        return whole_file(MEMBERS[kind][0], folder)
    if kind in CONFIGS:
        source, _ = CONFIGS[kind]
        if source not in MODELS:
            return Path(shutil.copytree(GOLDEN.parent / source, folder, dirs_exist_ok=True))
        MODELS[source](preprocessor=keras_vit.Preprocessor(24)).save(folder / "model.keras")
        return folder / "model.keras"
    place = FILES[kind]
    if place is None:
        path = folder / f"model.{kind}"
        (tiny_vit().save if kind == "keras" else tiny_vit().save_weights)(path)
        return path
    if kind == "index":
        for shard in (GOLDEN.parent / place).parent.glob("model*"):
            shutil.copy(shard, folder)
        return folder / Path(place).name
    return Path(shutil.copy(GOLDEN.parent / place, folder))


def with_member(data, ending, change):
    """A zip with the same members, but for what `change` makes of the one with that ending."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith(ending) else content)
            ending = ending if not name.endswith(ending) else "no second one"
    return result.getvalue()


def mutations(kind, path, count, rng):
    """`count` times a damaged file in place of the whole one; gives what is to be opened."""
    target = path / CONFIGS[kind][1] if path.is_dir() else path
    whole = target.read_bytes()
    for _ in range(count):
        if kind in MEMBERS:
            data = with_member(whole, MEMBERS[kind][1], lambda data: mutate(data, rng))
        elif kind in CONFIGS and not path.is_dir():
            data = with_member(whole, "config.json", lambda data: mutate_json(data, rng))
        else:
            data = (mutate_json if kind in CONFIGS else mutate)(whole, rng)
        target.write_bytes(data)
        yield path


def peak_memory():
    """Bytes that this process has taken at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read_all(path):
    """{name: checksum of its array and shape} of a file."""
    reader = open_file(path)
    try:
        chosen = choose(reader.parts, path)
        reader.select(chosen.part)
        infer(chosen.match, reader.tensors)
        arrays = {name: np.ascontiguousarray(reader.read(name)) for name in reader.tensors}
        return {
            name: (x.shape, str(x.dtype), zlib.crc32(x.tobytes())) for name, x in arrays.items()
        }
    finally:
        reader.close()


def outcomes(kind, count, seed, folder):
    """Counter of outcomes of `count` damaged files of a kind."""
    path, found = whole_file(kind, folder), collections.Counter()
    expected = None if kind in CONFIGS else read_all(path)
    for place in mutations(kind, path, count, np.random.default_rng(seed)):
        before = time.process_time()
        try:
            if kind in CONFIGS:
                keras_vit.from_pretrained(place, **OVERRIDES.get(kind, {}))
                found["built"] += 1
            else:
                same = read_all(place) == expected
                assert same or kind in WITHOUT_CHECKSUM, f"{kind}: other numbers"
                found["same" if same else "other"] += 1
        except CheckpointError as error:
            assert str(folder) in str(error), f"{kind}: no file in {str(error)[:300]!r}"
            assert len(str(error)) < 5000
            found["refused"] += 1
        assert time.process_time() - before < CPU_SECONDS
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    asked = parser.parse_args()
    names = ("refused", "same", "other", "built")
    print(f"{'':30}" + "".join(f"{name:>9}" for name in names) + "   CPU s")
    for kind in asked.kinds:
        with tempfile.TemporaryDirectory() as folder:
            before = time.process_time()
            found = outcomes(kind, asked.mutations, asked.seed, Path(folder))
        counts = "".join(f"{found[name]:9}" for name in names)
        print(f"{kind:30}{counts}{time.process_time() - before:8.1f}", flush=True)
    print(f"peak memory {peak_memory() / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
