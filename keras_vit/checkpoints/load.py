"""Other people's weights into a model: every tensor accounted for, or nothing changed."""

import contextlib
import difflib
import inspect
import re

import keras
import ml_dtypes
import numpy as np
from keras import ops

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.arguments import keras_arguments
from keras_vit.checkpoints.families import FAMILIES, MODELS, family_of, names_of
from keras_vit.checkpoints.files import CheckpointError, open_file
from keras_vit.checkpoints.matching import Unstacked, match
from keras_vit.checkpoints.names import as_tuple
from keras_vit.checkpoints.patches import resample_patches
from keras_vit.checkpoints.report import LoadReport
from keras_vit.checkpoints.sources import locate
from keras_vit.layers import resample_grid
from keras_vit.layers.initializers import no_initialization
from keras_vit.layers.position_bias import resample_bias_table
from keras_vit.terminal import printable

GRID = "position_embedding/grid"
BIAS_TABLE = "/position_bias/table"
PATCHES = "patch_embedding/projection/kernel"


def from_pretrained(source, **overrides):
    """A model with published weights, built as their own configuration says.

    Args:
        source: what to load: a hub id ("timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
            "google/vit-base-patch16-224", with or without "hf://", with "@revision" or without); a
            name of the catalogue (`keras_vit.list_checkpoints()`); a folder with `config.json` and
            weights; or a file: `.safetensors`, an index of shards, `.npz` of big_vision or
            vision_transformer, `.pth` or `.bin` of PyTorch, `.keras`.
        **overrides: any argument of the model. `num_classes` begins a new head, `image_size`
            resamples the position embeddings in the source's own way (and `window_size` the bias
            tables of a `SwinTransformer`), `patch_size` the patch embedding (FlexiViT's
            pseudo-inverse resize).

    Returns:
        A model of the source's family; its `load_report` says what became of every tensor.

    Raises:
        CheckpointError: (a ValueError) for what cannot be read, honoured or matched completely.

    Example:
        >>> model = keras_vit.from_pretrained("google/vit-base-patch16-224", num_classes=10)
    """
    _refuse_unknown(overrides, *MODELS)
    found = locate(source)
    with contextlib.closing(Unstacked(open_file(found.weights))) as reader:
        matched = match(reader.tensors, found.name)
        family = FAMILIES[matched.table.family]
        _refuse_unknown(overrides, family.model)
        arguments, description = _described(found, reader, matched, overrides)
        facts = family.facts(matched, reader.tensors, arguments)
        changed = {k: v for k, v in overrides.items() if arguments.get(k, _MISSING) != v}
        arguments = _with_overrides(arguments, overrides, _constructor_arguments(family.model))
        with no_initialization():
            model = family.model(**arguments)
        effects = family.effects
        optional = {effects[k]: f"{k}={v!r}" for k, v in changed.items() if k in effects}
        if description is not None and arguments.get("pooling", "map") != "map":
            optional.setdefault(r"pool/.*", f"pooling={arguments['pooling']!r} does not use it")
        report = _fill(model, reader, matched, facts, found.name, optional=optional)
    _initialize(model, report.fresh)
    if description is not None:
        report.unread = description.unread
    model.load_report = report
    if (report.fresh or report.unread) and keras.config.is_interactive_logging_enabled():
        print(printable(report.summary(), lines=True))
    return model


def load_weights(model, source, skip=()):
    """Fills a model that stands already; a failure leaves it as it was.

    Args:
        model: a model of this library.
        source: as `from_pretrained` takes it; `.weights.h5` files too.
        skip: names of layers that keep the values they have, such as `["head"]`.

    Returns:
        `LoadReport`.

    Raises:
        CheckpointError: (a ValueError) for a source that cannot be read, that has tensors for which
            the model has no weight or lacks some that it has, or that was computed otherwise
            (another number of heads, kind of GELU, epsilon).

    Example:
        >>> report = keras_vit.load_weights(model, "vit_base.safetensors", skip=["head"])
    """
    family = family_of(model)
    if family is None:
        raise ValueError(f"load_weights expects a {names_of()}. Received: {type(model).__name__}")
    layers = {layer.name for layer in model.layers}
    if isinstance(skip, str) or not set(skip) <= layers:
        raise ValueError(f"skip must be a list of names of layers. Received: {skip!r}")
    found = locate(source)
    with contextlib.closing(Unstacked(open_file(found.weights))) as reader:
        matched = match(reader.tensors, found.name)
        if FAMILIES[matched.table.family] is not family:
            raise CheckpointError(
                f"{found.name} holds a {FAMILIES[matched.table.family].model.__name__}. "
                f"Received: model={type(model).__name__}"
            )
        facts = None
        if matched.table.name != "keras":
            config = model.get_config()
            given = {name: config[name] for name in family.asked} | {"preprocessor": None}
            arguments, description = _described(found, reader, matched, given)
            _same_mathematics(family, config, arguments, description, found.name)
            facts = family.facts(matched, reader.tensors, arguments)
        skipped = {re.escape(name) + "/.*": f"skip={name!r}" for name in skip}
        return _fill(model, reader, matched, facts, found.name, skipped=skipped, standing=True)


_MISSING = object()


def _described(found, reader, matched, overrides):
    """(arguments, `Description` or None) of a source, from its tensors and its configuration."""
    family = FAMILIES[matched.table.family]
    inferred = family.infer(matched, reader.tensors)
    if matched.table.name == "keras":
        if reader.config is None:
            raise CheckpointError(
                f"{found.name} holds weights alone: build the model they belong to and fill it "
                "with keras_vit.load_weights(model, ...)."
            )
        return keras_arguments(reader, inferred, family.model, family.said_twice), None
    description = None
    if found.config is not None:
        description = family.describe(found.config, found.processor, found.name)
    return family.complete(inferred, description, overrides, found.name), description


def _constructor_arguments(*models):
    return list(dict.fromkeys(x for model in models for x in inspect.signature(model).parameters))


def _refuse_unknown(overrides, *models):
    known = _constructor_arguments(*models)
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        raise ValueError(
            f"Overrides must be arguments of {names_of(models)}"
            f"{f'; {near[0]}?' if near else '.'} Received: {', '.join(unknown)}"
        )


def _with_overrides(arguments, overrides, known):
    """The arguments with the caller's; what hangs on a changed one follows it."""
    changed = {**arguments, **overrides}
    if overrides.get("num_classes", arguments.get("num_classes")) != arguments.get("num_classes"):
        # As the paper does for fine-tuning: head and pre-logits go, the names of classes with them.
        for name in ("representation_size", "class_names"):
            if name in known and name not in overrides:
                changed[name] = None
    if "image_size" in overrides and overrides["image_size"] is not None:
        if "position_grid" in known and "position_grid" not in overrides:
            changed["position_grid"] = None
        preprocessor = arguments.get("preprocessor")
        if preprocessor is not None and "preprocessor" not in overrides:
            config = {**preprocessor.get_config(), "image_size": overrides["image_size"]}
            changed["preprocessor"] = type(preprocessor).from_config(config)
    return changed


def _same_mathematics(family, config, arguments, description, name):
    """Raises where the source computes with its tensors what the model does not."""
    keys = family.arithmetic | (family.described if description else set())
    wrong = {k: arguments[k] for k in keys if arguments.get(k, config[k]) != config[k]}
    if wrong:
        ours = {key: config[key] for key in wrong}
        raise CheckpointError(
            f"{name} was made by other arithmetic than the model's: build the model with "
            f"{wrong}, or use keras_vit.from_pretrained. Received: {ours}"
        )


def _fill(model, reader, matched, facts, name, optional=(), skipped=(), standing=False):
    """Assigns every tensor, or raises before the first assignment where one does not fit.

    Args:
        model, reader, matched, facts, name: what to fill, and from what.
        optional: dict of pattern to reason: weights that need not be in the source, nor its tensors
            in the model.
        skipped: dict of pattern to reason: weights that are left alone whatever the source has.
        standing: whether the model may be somebody's, so that all data is checked first.

    Returns:
        `LoadReport`.
    """
    optional = dict(optional)
    weights = {w.path: w for w in model.weights if "seed_generator" not in w.path}
    report = LoadReport(name, matched.table.name, dropped=dict(matched.dropped))
    plan, missing, unknown = [], [], list(matched.unknown)
    for (row, number), sources in matched.found.items():
        targets = [_path(target, number) for target in as_tuple(row.targets)]
        paths = [path for path in targets if path in weights]
        names = [sources[s] for s in as_tuple(row.sources) if s in sources]
        reason = _reason(targets, skipped) or ("" if paths else _reason(targets, optional))
        absent = [s for s in as_tuple(row.sources) if s not in sources]
        if reason:
            report.dropped.update(dict.fromkeys(names, reason))
        elif not paths:
            unknown += names
        elif absent:
            missing += [matched.prefix + _path(source, number, digits=0) for source in absent]
        elif not _fits(row, names, paths, reader, weights, facts, report, _reason(paths, optional)):
            report.dropped.update(dict.fromkeys(names, _reason(paths, optional)))
        else:
            plan.append((row, names, paths))
    planned = {path for _, _, paths in plan for path in paths}
    for path in sorted(weights.keys() - planned):
        reason = _reason([path], skipped) or _reason([path], optional)
        if reason:
            report.fresh[path] = reason
        else:
            missing.append(path)
    used = {x for _, names, _ in plan for x in names}
    unknown = sorted(set(unknown) - used)  # a tensor may belong to two rows
    report.dropped = {x: reason for x, reason in report.dropped.items() if x not in used}
    if missing or unknown:
        raise CheckpointError(_mismatch(name, missing, unknown, matched))

    if standing:
        for row, names, paths in plan:  # all data, before anything is assigned
            _arrays(row, names, paths, reader, weights, facts)
    for row, names, paths in plan:
        for path, array in _arrays(row, names, paths, reader, weights, facts).items():
            weights[path].assign(_resampled(array, path, weights[path], facts, matched, model))
        report.used.append((names, paths))
    return report


def _initialize(model, paths):
    """Gives these weights of a model that was built with `no_initialization` their initial values.

    A new layer of the same configuration knows them.
    """
    for name in dict.fromkeys(path.partition("/")[0] for path in paths):
        layer = model.get_layer(name)
        new = type(layer).from_config(layer.get_config())
        new.build(*(x.shape for x in keras.tree.flatten(layer.input)))
        values = {weight.path.partition("/")[2]: weight for weight in new.weights}
        for weight in layer.weights:
            if weight.path in paths:
                weight.assign(ops.copy(values[weight.path.partition("/")[2]]))


def _path(pattern, number, digits=2):
    return pattern if number is None else pattern.replace("{i}", f"{int(number):0{digits}d}")


def _reason(paths, reasons):
    """Why the first of `paths` that some pattern covers may be left out; None where none is."""
    for pattern in reasons:
        if any(re.fullmatch(pattern, path) for path in paths):
            return reasons[pattern]
    return None


def _mismatch(name, missing, unknown, matched):
    lines = [
        f"{name} does not fit; nothing was loaded. Expected: a tensor for every weight and one "
        f"weight for every tensor, named as by {matched.table.name}."
    ]
    for title, names, others in (
        ("weights without a tensor", missing, unknown),
        ("tensors without a weight", unknown, missing),
    ):
        if names:
            lines.append(f"Received {len(names)} {title}:")
            for x in names[:12]:
                near = difflib.get_close_matches(x, others, 1, 0.6)
                lines.append(f"  {x}" + (f" (near: {near[0]})" if near else ""))
            if len(names) > 12:
                lines.append(f"  and {len(names) - 12} more")
    return "\n".join(lines)


def _fits(row, names, paths, reader, weights, facts, report, reason):
    """Whether the arrays of a row have the shapes of its weights, judged without reading them.

    Grids and patches of another size fit too: they will be resampled. For any other difference
    this is False where there is a `reason` to leave the weights out, and otherwise an error.
    """
    tensors = [reader.tensors[x] for x in names]
    for x, tensor in zip(names, tensors, strict=True):
        if tensor.dtype.kind != "f" and tensor.dtype != ml_dtypes.bfloat16:
            raise CheckpointError(
                f"{x!r} must hold floating-point numbers. Received: {tensor.dtype}"
            )
    dummies = [np.broadcast_to(np.int8(0), tensor.shape) for tensor in tensors]
    for path, array in _laid_out(row, dummies, names, paths, weights, facts).items():
        expected = tuple(weights[path].shape)
        if array.shape == expected:
            continue
        resampled = path.endswith((GRID, BIAS_TABLE))
        resampled = resampled or (path == PATCHES and facts is not None)
        if resampled and array.ndim == len(expected) and array.shape[-1] == expected[-1]:
            report.resampled.append(path)
        elif reason:
            return False
        else:
            raise CheckpointError(
                f"{' + '.join(names)} does not fit {path}; nothing was loaded. Expected: the shape "
                f"{expected}. Received: {array.shape}, laid out from "
                f"{[tensor.shape for tensor in tensors]}"
            )
    return True


def _laid_out(row, arrays, names, paths, weights, facts):
    targets = [(path, weights[path].shape[-1]) for path in paths]
    try:
        return layouts.read(row.layout, arrays, targets, facts and facts.at(paths[0]))
    except (ValueError, IndexError) as error:
        raise CheckpointError(
            f"{' + '.join(names)} cannot be laid out as {row.layout} for {', '.join(paths)}. "
            f"Received: shapes {[x.shape for x in arrays]}: {error}"
        ) from error


def _arrays(row, names, paths, reader, weights, facts):
    """The arrays of one row's weights, read and checked to be numbers."""
    arrays = [reader.read(name) for name in names]
    for name, array in zip(names, arrays, strict=True):
        if not np.isfinite(array.astype("float32", copy=False)).all():
            raise CheckpointError(
                f"{name!r} holds NaN or infinite numbers; nothing was loaded. Received: "
                f"{int((~np.isfinite(array.astype('float32'))).sum())} of {array.size}"
            )
    return _laid_out(row, arrays, names, paths, weights, facts)


def _resampled(array, path, weight, facts, matched, model):
    """The array in the weight's shape: grids and patches of another size are resampled."""
    array = array.astype("float32", copy=False)
    expected = tuple(weight.shape)
    if array.shape == expected:
        return array
    if path.endswith(GRID):
        mode = matched.table.position_resample
        if matched.table.name == "keras":
            mode = model.get_config()["position_resample"]
        resampled = resample_grid(array, expected[:2], mode)
        return ops.convert_to_numpy(resampled)
    if path.endswith(BIAS_TABLE):
        convention = model.get_config()["convention"]
        return ops.convert_to_numpy(resample_bias_table(array, expected[:2], convention))
    kernel = array.reshape(*facts.patch_size, facts.num_channels, -1)
    size = model.get_layer("patch_embedding").patch_size
    return resample_patches(kernel, size).reshape(expected)
