"""Fingerprints of the data of a run, with which a resumed run detects changed data.

Arrays are compared by content, files by name and size: this takes seconds for a million files, and
a copied folder, whose files have other times, is the same data. Of TFRecord files, which are few
and large, the first and last bytes are compared too.
"""

import contextlib
import hashlib
import json
import os
from collections import defaultdict

import keras
import numpy as np

from .examples import WHOLE, Encoded
from .sources import SUFFIXES

ENDS = 2**16  # number of bytes at each end of a TFRecord file that are compared
SPLITS = ("train", "validation", "test")


def of_splits(splits):
    """The fingerprint of a data set.

    Args:
        splits: `Splits`.

    Returns:
        dict for JSON. For arrays: "arrays", with shape, dtype and hash by name. For encoded
        pictures: "files", their number; "sizes", in the order of `paths`, -1 for a missing file;
        "ends", hashes, if files contain several pictures; and "others", the number of other
        pictures in the same folders.
    """
    if not splits.encoded:
        return {
            "arrays": {
                f"{name} {kind}": [list(array.shape), str(array.dtype), _hash(array)]
                for name in SPLITS
                for kind, array in _arrays(getattr(splits, name)).items()
            }
        }
    files = paths(splits)
    sizes, others = _sizes(files)
    if (splits.train.images.lengths == WHOLE).all():
        return {"files": len(files), "sizes": sizes, "others": others}
    ends = [_ends(path, size) for path, size in zip(files, sizes, strict=True)]
    return {"files": len(files), "sizes": sizes, "ends": ends, "others": others}


def of_weights(model):
    """A hash of the weights of a model."""
    hashes = [_hash(keras.ops.convert_to_numpy(weight)) for weight in model.weights]
    return hashlib.blake2b("".join(hashes).encode(), digest_size=16).hexdigest()


def paths(splits):
    """The files of the encoded pictures that are used, in their order: a list of bytes."""
    used = [
        part
        for name in SPLITS
        for part in _arrays(getattr(splits, name)).values()
        if isinstance(part, Encoded)
    ]
    used = [images.files[np.unique(images.file)].tolist() for images in used]
    return list(dict.fromkeys(path for files in used for path in files))


def check(path, now, splits, source):
    """Raises if the data of a run have changed since it started; prints how many were added.

    Args:
        path: `Path` of the fingerprint from the start of the run; runs of earlier versions without
            one pass.
        now: dict of `of_splits`.
        splits: `Splits`, for the names of the files.
        source: str, the name of the data in the message.
    """
    before = _read(path)
    if "arrays" in before:
        wrong = _other_arrays(before["arrays"], now.get("arrays", {}))
    elif "files" in before:
        wrong = _other_files(before, now, splits)
    else:
        return
    if wrong:
        raise ValueError(
            "The data must be those that the run started with: restore them, or start another run "
            f"with --new. {'; '.join(wrong)}. Received: data.source={source}"
        )
    if now.get("others", 0) > before.get("others", 0):
        more = now["others"] - before["others"]
        pictures = "picture" if more == 1 else "pictures"
        print(f"{more:,} more {pictures} than when the run started; they are not used")


def check_teacher(path, now):
    """Raises if the hash of the teacher's weights (`of_weights`) has changed."""
    before = _read(path).get("teacher", now)
    if before != now:
        raise ValueError(
            "The teacher's weights must be those that the run started with: restore them, or start "
            f"another run with --new. Received: weights with hash {now}, {before} before"
        )


def _arrays(split):
    """dict of the images and labels of a split; of masks their files or their array."""
    images, labels = split
    if hasattr(labels, "contents"):
        return {"images": images, **labels.contents()}
    return {"images": images, "labels": getattr(labels, "files", labels)}


def _read(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _other_arrays(before, now):
    """Descriptions of the arrays that differ: a list of str."""
    wrong = []
    for name, (shape, dtype, contents) in before.items():
        now_shape, now_dtype, now_contents = now.get(name, [[], "nothing", ""])
        was, found = f"{dtype} {tuple(shape)}", f"{now_dtype} {tuple(now_shape)}"
        if found != was:
            wrong.append(f"{name} are {found}, were {was}")
        elif now_contents != contents:
            wrong.append(f"{name}, {was}, have other values or another order")
    return wrong


def _other_files(before, now, splits):
    """Descriptions of the files that differ: a list of str."""
    if before["files"] != now.get("files"):
        return [f"{now.get('files', 0):,} files, {before['files']:,} before"]
    then, sizes = np.array(before["sizes"]), np.array(now["sizes"])
    gone = np.flatnonzero((sizes < 0) & (then >= 0))
    grown = np.flatnonzero((sizes != then) & (sizes >= 0))
    ends = zip(before.get("ends", ()), now.get("ends", ()), strict=False)
    other = [i for i, (one, two) in enumerate(ends) if one != two and sizes[i] == then[i]]
    wrong, files = [], paths(splits) if len(gone) + len(grown) + len(other) else []
    for found, what in (
        (gone, "are missing"),
        (grown, "have another size"),
        (other, "have other contents"),
    ):
        if len(found):
            first = ", ".join(os.fsdecode(files[i]) for i in found[:3])
            more = ", ..." if len(found) > 3 else ""
            wrong.append(f"{len(found):,} of {len(files):,} files {what}: {first}{more}")
    return wrong


def _sizes(files):
    """(list of the size of every file, -1 if it is missing; number of other pictures there).

    It works folder by folder, which is fastest, especially on network file systems.
    """
    folders = defaultdict(dict)
    for index, path in enumerate(files):
        folder, _, name = path.rpartition(b"/")
        folders[folder or b"/"][name] = index
    sizes, others = [-1] * len(files), 0
    suffixes = tuple(suffix.encode() for suffix in SUFFIXES)
    for folder, names in folders.items():
        if not os.path.isdir(folder):
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in names:
                    with contextlib.suppress(FileNotFoundError):  # a link to nothing
                        sizes[names[entry.name]] = entry.stat().st_size
                elif entry.name.lower().endswith(suffixes) and not entry.name.startswith(b"."):
                    others += 1
    return sizes, others


def _ends(path, size):
    """A hash of the first and last bytes of a file; "" if the file is missing."""
    if size < 0:
        return ""
    with open(path, "rb") as file:
        first = file.read(ENDS)
        file.seek(max(size - ENDS, 0))
        return hashlib.blake2b(first + file.read(ENDS), digest_size=16).hexdigest()


def _hash(array):
    flat = np.ascontiguousarray(array).reshape(-1).view("uint8")
    return hashlib.blake2b(flat, digest_size=16).hexdigest()
