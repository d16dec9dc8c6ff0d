"""Infers a Swin Transformer from tensors and configuration."""

import itertools
import math
import re

from keras_vit.checkpoints.errors import ArgumentError, CheckpointError
from keras_vit.checkpoints.layouts import Facts, StageFacts
from keras_vit.checkpoints.swin.fields import describe as describe
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.checkpoints.untrusted import brief
from keras_vit.layers.position_bias import resample_bias_table
from keras_vit.models.swin import stage_windows

TABLE = "attention/position_bias/table"
# What tensors and another library's configuration both say; they must agree.
MUST_AGREE = (
    "width",
    "depths",
    "num_heads",
    "mlp_ratio",
    "num_channels",
    "num_classes",
    "patch_size",
    "qkv_bias",
)
# What a `.keras` file's configuration and its weights both say; they must agree.
SAID_TWICE = ("version", "width", "depths", "num_heads", "num_classes")
# What must be equal for the same tensors to compute the same, and what besides where a
# configuration says it.
ARITHMETIC = frozenset({"version", "num_heads"})
DESCRIBED = frozenset({"mlp", "norm_epsilon", "pretrained_window_size"})
# Arguments of the model to fill that count where the source is silent.
ASKED = ("image_size", "window_size")
GUESSED = ("image_size",)
FIRST_CONVOLUTION = "patch_embedding/projection/kernel"  # which reads the pixels
ONLY_WITH, REFUSED = {}, {}
# Which weights an argument that the caller changed may leave out or begin anew.
EFFECTS = {
    "num_classes": r"head/.*",
    "depths": r"stage\d_.*",
    "qkv_bias": r"stage\d_block\d+/attention/(qkv/bias|query_bias|value_bias)",
}


def _resample_table(table, size, arguments):
    return resample_bias_table(table, size, arguments["convention"])


RESAMPLED = {"/position_bias/table": _resample_table}


def infer(matched, tensors):
    """What the tensors say: constructor arguments of `SwinTransformer`.

    Args:
        matched: `Match`.
        tensors: dict of name to `Tensor`.

    Returns:
        dict; besides the arguments `offsets`, how many a window of each stage has between its
        places, or None where neither a bias table nor the authors' index of one shows it.

    Raises:
        CheckpointError: for shapes that are not those of a Swin Transformer.
    """
    shapes, depths = {}, {}  # of the first source of each target, {i} in the path
    for (row, number), sources in matched.found.items():
        shape = tensors[next(iter(sources.values()))].shape
        for target in as_tuple(row.targets):
            shapes.setdefault(target, (row, shape))
            stage = re.match(r"stage(\d)_block", target)
            if stage:
                depths[int(stage[1])] = max(depths.get(int(stage[1]), 0), int(number) + 1)
    try:
        return _infer(shapes, depths, matched, tensors)
    except (IndexError, KeyError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"The shapes are not those of a Swin Transformer with names of {matched.table.name}. "
            f"Received: {error!r}"
        ) from error


def _infer(shapes, depths, matched, tensors):
    row, kernel = shapes["patch_embedding/projection/kernel"]
    found = {**matched.table.arguments}
    if row.layout == "convolution":
        width, found["num_channels"], p, q = kernel
        found["patch_size"] = (p, q)
    elif row.layout == "patches":
        p, q, found["num_channels"], width = kernel
        found["patch_size"] = (p, q)
    else:  # our own files hold a matrix: their configuration says what it was made of
        width = kernel[-1]
    stages = [f"stage{s}_block{{i}}" for s in range(len(depths))]
    version = 2 if f"{stages[0]}/attention/logit_scale" in shapes else 1
    heads = f"attention/{'logit_scale' if version == 2 else 'position_bias/table'}"
    ratios = {
        _outputs(shapes, f"{x}/mlp/fc1/kernel") / (width * 2**s) for s, x in enumerate(stages)
    }
    if len(ratios) > 1 or sorted(depths) != list(range(len(depths))):
        raise ValueError(f"stages {depths}, MLPs {sorted(ratios)} times as wide as the map")
    bias = "query_bias" if version == 2 else "qkv/bias"
    head = shapes.get("head/dense/kernel")
    found.update(
        version=version,
        width=width,
        depths=tuple(depths[s] for s in range(len(depths))),
        num_heads=tuple(shapes[f"{x}/{heads}"][1][0 if version == 2 else -1] for x in stages),
        mlp_ratio=ratios.pop(),
        qkv_bias=f"{stages[0]}/attention/{bias}" in shapes,
        num_classes=_outputs(shapes, "head/dense/kernel") if head else None,
        offsets=_offsets(shapes, stages, tensors),
    )
    return found


def _outputs(shapes, target):
    row, shape = shapes[target]
    return shape[0] if row.layout == "linear" else shape[-1]


def _offsets(shapes, stages, tensors):
    """How many offsets each stage's table is for, or None where one stage does not show it."""
    counts = []
    for s, stage in enumerate(stages):
        found = shapes.get(f"{stage}/{TABLE}")
        if found:
            counts.append(math.prod(found[1][:-1]))
            continue
        prefix = rf"(layers\.{s}|features\.{2 * s + 1})\."
        index = [x for x in tensors if re.search(rf"{prefix}.*relative_position_index", x)]
        # (N, N), or flat in torchvision
        places = math.isqrt(math.prod(tensors[index[0]].shape)) if index else 0
        side = math.isqrt(places)
        counts.append((2 * side - 1) ** 2 if side and side**2 == places else 0)
    return tuple(counts) if all(counts) else None


def complete(inferred, description, overrides, name):
    """Arguments of `SwinTransformer` from what tensors, configuration and caller say.

    Args, Returns, Raises: as `vit.read.complete`.
    """
    found = dict(inferred)
    offsets, stages = found.pop("offsets"), len(found["depths"])
    asked = overrides.get("window_size")
    if isinstance(asked, (list, tuple)) and len(asked) != stages:
        raise ArgumentError(
            f"window_size must be an int, or one for each of the {stages} stages. "
            f"Received: window_size={asked}"
        )
    said = dict(description.arguments) if description else {}
    for key in MUST_AGREE:
        value = said.pop(key, None)
        if value is not None and value != found[key]:
            raise CheckpointError(
                f"The configuration and the tensors of {name} contradict each other. Expected: "
                f"{key}={found[key]!r}, as the tensors have it. Received: {key}={brief(value)}"
            )
    found.update({k: v for k, v in said.items() if v is not None})
    if offsets is not None:
        _windows_of_tables(found, offsets, overrides, name)
    if "window_size" not in found:
        if overrides.get("window_size") is None:
            raise CheckpointError(
                f"{name} does not say how large its windows are: pass window_size=. Received: "
                f"{len(found['depths'])} stages of version {found['version']}"
            )
        found["window_size"] = overrides["window_size"]
    if "image_size" not in found:
        last = found["window_size"]
        last = last if isinstance(last, int) else last[-1]
        found["image_size"] = overrides.get("image_size") or _usual_size(found, last)
    if description is not None:
        _preprocessing(found, description, overrides)
    return {"convention": "authors", **found}


def _windows_of_tables(found, offsets, overrides, name):
    """Windows and image size from how many offsets the tables have.

    What the configuration says must agree with them. Where it is silent the caller's sizes count
    if they agree, as they need not where they are those to change to; else windows are square.
    """
    sides = [(math.isqrt(count) + 1) // 2 for count in offsets]
    square = all((2 * side - 1) ** 2 == count for side, count in zip(sides, offsets, strict=True))
    windows, sizes = [found.get("window_size")], [found.get("image_size")]
    if windows == [None]:  # one for all where the smaller ones are those that shrank
        windows = [overrides.get("window_size")] + [max(sides), tuple(sides)] * square
    if sizes == [None]:
        sizes = [overrides.get("image_size"), _usual_size(found, sides[-1])]
    for size, window in itertools.product(sizes, windows):
        if size is None or window is None:
            continue
        source = {"convention": "authors", **found, "image_size": size, "window_size": window}
        if all(map(_is_of, offsets, stage_windows(source), _asked_windows(source))):
            found.update(image_size=size, window_size=window)
            return
    sizes = {key: found[key] for key in ("image_size", "window_size") if key in found}
    raise CheckpointError(
        f"The bias tables of {name} do not fit its windows. Expected: (2a-1)(2b-1) offsets for "
        "windows of a x b; pass the source's window_size= and image_size= where no config.json "
        f"says them. Received: {offsets} offsets, {sizes or 'no sizes'}"
    )


def _is_of(count, window, asked):
    """Whether a table has the offsets of a window, or of what it was before the map shrank it."""
    return count in [(2 * a - 1) * (2 * b - 1) for a, b in (window, asked)]


def _asked_windows(arguments):
    return stage_windows({**arguments, "image_size": None})


def _usual_size(found, window):
    """The image whose last map is one window, as it is in all published models."""
    scale = 2 ** (len(found["depths"]) - 1)
    return tuple(window * scale * patch for patch in found["patch_size"])


def _preprocessing(found, description, overrides):
    if description.refused is not None and "preprocessor" not in overrides:
        raise description.refused
    found["preprocessor"], found["class_names"] = description.preprocessor, description.class_names
    if found["class_names"] is not None and len(found["class_names"]) != found["num_classes"]:
        raise CheckpointError(
            "config.json must name every class once. "
            f"Received: {len(found['class_names'])} names, {found['num_classes']} classes"
        )


def facts(arguments):
    """`layouts.StageFacts` of a source, or of a model, that these arguments describe."""
    pairs = zip(stage_windows(arguments), _asked_windows(arguments), strict=True)
    stages = []
    for windows in pairs:  # as the map shrank them, and as they were before
        sizes = tuple((2 * a - 1, 2 * b - 1) for a, b in windows)
        stages.append(Facts(arguments["patch_size"], arguments["num_channels"], bias_tables=sizes))
    return StageFacts(tuple(stages), ())
