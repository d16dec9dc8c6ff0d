"""Loads pretrained weights into a model: every tensor is accounted for, or nothing changes."""

import contextlib
import difflib
import inspect
import re
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_vit.callers import warn
from keras_vit.checkpoints import families
from keras_vit.checkpoints.adapt import Adapter, preprocessor_for_channels
from keras_vit.checkpoints.arguments import keras_arguments
from keras_vit.checkpoints.building import build
from keras_vit.checkpoints.checks import check_arguments, check_blocks
from keras_vit.checkpoints.encoders import ENCODER, as_classifier, asks_for_encoder
from keras_vit.checkpoints.errors import CheckpointError, named, readable
from keras_vit.checkpoints.families import builders, classes, family_of, names_of
from keras_vit.checkpoints.fill import fill
from keras_vit.checkpoints.like import borrowed, entry_like, without_preprocessing
from keras_vit.checkpoints.matching import choose
from keras_vit.checkpoints.readers.joined import Joined
from keras_vit.checkpoints.readers.open import open_file
from keras_vit.checkpoints.readers.unstacked import Unstacked, unstacked
from keras_vit.checkpoints.sources import locate
from keras_vit.checkpoints.task_file import load as load_task
from keras_vit.checkpoints.task_file import task_of
from keras_vit.layers.validation import as_pair
from keras_vit.models.resize import learned_positions


def from_pretrained(source, *, like=None, part=None, prefix=None, **overrides):
    """Builds a model from published weights and their configuration.

    Args:
        source: what to load: a hub id ("timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
            "google/vit-base-patch16-224", with or without "hf://", with "@revision" or without); a
            name of the catalogue (`keras_vit.list_checkpoints()`); a variant ("ViTBase"), for the
            checkpoint that `keras_vit.list_models()` names: the one with the highest known accuracy
            on ImageNet-1k at the variant's own image size; a folder with `config.json` and weights,
            or a preset of keras-hub; or a file: `.safetensors`, an index of shards, `.npz` of
            big_vision or vision_transformer, `.pth` or `.bin` of PyTorch, `.keras`.
        like: a name of the catalogue whose preprocessing the model gets, and whose names of classes
            where both have the 1000 of ImageNet-1k: for a source that says neither.
        part: what of the source is wanted. "encoder" for the encoder alone of a model of a task,
            such as a masked autoencoder; otherwise which dict of tensors a training checkpoint's
            model is in, such as "teacher" or "state_dict_ema": for a file with several models. (A
            file with a dict of the name "encoder" gives that.)
        prefix: what stands before the names of the model's tensors, such as
            "module.base_encoder.": for several models under different prefixes, or to leave out
            what has another.
        **overrides: any argument of the model. `num_classes` begins a new head, `image_size`
            resamples the position embeddings in the source's own way (and `window_size` the bias
            tables of a `SwinTransformer`), `patch_size` the patch embedding (FlexiViT's
            pseudo-inverse resize), `num_channels` adapts the first convolution as timm does. Of a
            masked autoencoder `num_classes`, `pooling` and the like give its encoder, by default
            as in fine-tuning: the mean of the patches is pooled and then normalised
            (`pooling="gap", fc_norm=True`); `pooling="token"` reads the class token. Where the
            source does not say what it is, they say it: `num_heads`, `image_size`,
            `position_grid`.

    Returns:
        A model of the source's family; its `load_report` says what became of every tensor.

    Raises:
        CheckpointError: (a ValueError) for what cannot be read, honoured or matched completely.

    Example:
        >>> model = keras_vit.from_pretrained("google/vit-base-patch16-224", num_classes=10)
        >>> model = keras_vit.from_pretrained(
        ...     "deit_tiny_patch16_224-a1311bcf.pth", like="deit_tiny_patch16_224.fb_in1k"
        ... )
        >>> model = keras_vit.from_pretrained("checkpoint.pth", part="student", num_heads=6)
    """
    _refuse_unknown(overrides, *builders())
    asked = families.asked()
    check_arguments({key: value for key, value in overrides.items() if key in asked})
    entry = None if like is None else entry_like(like)
    if entry is not None and "preprocessor" in overrides:
        raise ValueError(
            f"Preprocessing is given once, by like= or by preprocessor=. Received: like={like!r}, "
            f"preprocessor={overrides['preprocessor']!r}"
        )
    return _loaded(locate(source), entry, part, prefix, overrides)


def _loaded(found, entry, part, prefix, overrides):
    """The model of a located source; arguments and errors as of `from_pretrained`."""
    with contextlib.closing(_opened(found)) as file:
        task = task_of(file.config)
        if task is not None:
            if not asks_for_encoder(task, part, overrides):
                return load_task(task, file, overrides, found.name)
            whole = load_task(task, file, {}, found.name)
            return _of_encoder(whole, found, entry, as_classifier(task, overrides))
        reader, matched, chosen = _chosen(found, file, part, prefix)
        family = families.family(matched.table.family)
        if asks_for_encoder(family, part, overrides):
            reader, matched, chosen = _chosen(found, file, part, prefix, of_tasks=False)
            overrides = as_classifier(family, overrides)
            family = families.family(matched.table.family)
        _refuse_unknown(overrides, family.build)
        given = overrides if entry is None else {"preprocessor": None, **overrides}
        with readable(found.name, "checkpoint"):
            arguments, description, notes = _described(found, reader, matched, given)
            if entry is not None:
                arguments |= borrowed(entry, arguments)
            facts = _facts(family, arguments)
        changed = {k: v for k, v in overrides.items() if arguments.get(k, _MISSING) != v}
        changed.pop("name", None)  # which changes no weight
        wanted = _with_overrides(arguments, overrides, _constructor_arguments(family.build))
        model = build(family.build, arguments, wanted, tensors=reader.tensors, name=found.name)
        arguments = wanted
        effects = family.read.EFFECTS
        optional = {effects[k]: f"{k}={v!r}" for k, v in changed.items() if k in effects}
        if description is not None:
            for pattern, (key, value) in family.read.ONLY_WITH.items():
                if arguments[key] != value:
                    optional.setdefault(pattern, f"{key}={arguments[key]!r} does not use it")
        mode = arguments.get("position_resample")
        first = family.read.FIRST_CONVOLUTION
        adapter = Adapter(model, facts, mode, first, family.read.RESAMPLED)
        with named(found.name):
            report = fill(reader, matched, adapter, found.name, optional=optional)
        other = [*report.resampled, *report.adapted]
        if other and matched.table.name == "keras" and not changed:
            raise CheckpointError(
                f"The configuration and the weights of {found.name} contradict each other. "
                f"Received: weights of another shape for {', '.join(other[:3])}"
            )
    _initialize(model, report.fresh)
    if description is not None:
        report.unread = description.unread
    model.load_report = report
    report.notes += chosen + notes + [found.note] * bool(found.note)
    if report.adapted and "preprocessor" not in overrides and model.preprocessor is not None:
        mean, std = (
            np.round(x, 4).tolist() for x in (model.preprocessor.mean, model.preprocessor.std)
        )
        report.notes.append(f"the preprocessing has followed: mean={mean}, std={std}")
    own = matched.table.name == "keras"
    note = _without_preprocessing(found.name, arguments, overrides, own)
    decided = "include_preprocessing" in overrides
    report.notes += [note] if note and decided else []
    news = any((report.fresh, report.unread, report.adapted, report.notes))
    if news and keras.config.is_interactive_logging_enabled():
        print(report.summary())
    if note and not decided:
        report.notes.append(note)
        warn(note)
    return model


def load_weights(model, source, skip=(), *, part=None, prefix=None):
    """Loads weights into an existing model. If anything fails, the model is left unchanged.

    All data is read and checked before the first weight changes, which takes memory for one more
    copy of the weights. RGB weights fill a model of another number of channels as in
    `from_pretrained`; the report says so.

    Args:
        model: a model of this library.
        source: as `from_pretrained` takes it; `.weights.h5` files too.
        skip: names of layers that keep the values they have, such as `["head"]`.
        part, prefix: which of several models in a file, as of `from_pretrained`.

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
        raise ValueError(
            f"load_weights expects a {names_of(classes())}. Received: {type(model).__name__}"
        )
    layers = {layer.name for layer in model.layers}
    if isinstance(skip, str) or not set(skip) <= layers:
        raise ValueError(f"skip must be a list of names of layers. Received: {skip!r}")
    found = locate(source)
    with contextlib.closing(_opened(found)) as file:
        reader, matched, chosen = _chosen(found, file, part, prefix)
        if families.family(matched.table.family) is not family:
            with contextlib.suppress(CheckpointError):  # of a task's model the encoder
                reader, matched, chosen = _chosen(found, file, part, prefix, of_tasks=False)
        if families.family(matched.table.family) is not family:
            raise CheckpointError(
                f"{found.name} holds a {families.family(matched.table.family).model.__name__}. "
                f"Received: model={type(model).__name__}"
            )
        config = family.arguments(model)
        facts, arguments, notes = None, config, []
        if matched.table.name != "keras" or reader.config is not None:
            given = {name: config[name] for name in family.read.ASKED} | {"preprocessor": None}
            positions = learned_positions(model)
            if positions:
                given["position_grid"] = positions[0].grid_size
            with readable(found.name, "checkpoint"):
                arguments, description, _ = _described(found, reader, matched, given)
                facts = _facts(family, arguments)
            said = description is not None or matched.table.name == "keras"
            notes = _same_mathematics(family, config, arguments, said=said, name=found.name)
        skipped = {re.escape(name) + "/.*": f"skip={name!r}" for name in skip}
        mode = arguments.get("position_resample")
        first = family.read.FIRST_CONVOLUTION
        adapter = Adapter(model, facts, mode, first, family.read.RESAMPLED)
        with named(found.name):
            report = fill(reader, matched, adapter, found.name, skipped=skipped, standing=True)
    report.notes += chosen + notes + [found.note] * bool(found.note)
    return report


_MISSING = object()


def _of_encoder(whole, found, entry, overrides):
    """The encoder of a task's model in memory, loaded as if it were alone in the source."""
    if not hasattr(whole, "encoder"):
        raise CheckpointError(
            f"{found.name} holds a {type(whole).__name__}, which has no encoder of its own. "
            f"Received: part={ENCODER!r}"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "encoder.keras")
        whole.encoder.save(path)
        return _loaded(locate(path)._replace(name=found.name), entry, None, None, overrides)


def _opened(found):
    """The reader of a source, which may be two files."""
    file = open_file(found.weights)
    return file if found.head is None else Joined([file, open_file(found.head)])


def _chosen(found, file, part, prefix, of_tasks=True):
    """(reader, `Match`, notes) of the model in a file; each array of the reader is one block's."""
    with readable(found.name, "checkpoint"):
        parts = {name: unstacked(tensors) for name, tensors in file.parts.items()}
        part = None if part == ENCODER and ENCODER not in parts else part
        choice = choose(parts, found.name, file.config, part, prefix, of_tasks)
        file.select(choice.part)
        reader = Unstacked(file)
        check_blocks(choice.match, reader.tensors)
        return reader, choice.match, choice.notes


def _described(found, reader, matched, overrides):
    """(arguments, `Description` or None, notes) of a source, from its tensors and configuration."""
    family = families.family(matched.table.family)
    inferred = family.read.infer(matched, reader.tensors)
    if matched.table.name == "keras":
        if reader.config is None:
            raise CheckpointError(
                f"{found.name} holds weights alone: build the model that they belong to and "
                "load them with keras_vit.load_weights(model, ...)."
            )
        return keras_arguments(reader, inferred, family), None, []
    description, said = None, {}
    if found.config is not None:
        description = family.read.describe(found.config, found.processor, found.name)
        said = {k: v for k, v in description.arguments.items() if v is not None}
        # What tensors say too is compared with them.
        check_arguments({key: value for key, value in said.items() if key not in inferred})
    arguments = family.read.complete(inferred, description, overrides, found.name)
    check_arguments({key: value for key, value in arguments.items() if key != "preprocessor"})
    guessed = [
        f"{key}={arguments[key]!r}"
        for key in family.read.GUESSED
        if key in arguments and not any(key in x for x in (inferred, said, overrides))
    ]
    notes = [f"guessed, because the source does not say it: {', '.join(guessed)}"] * bool(guessed)
    return arguments, description, notes


def _without_preprocessing(name, arguments, overrides, own):
    """The warning for a source without preprocessing, or None if the caller gives it.

    `own` is whether it is one of our own files, which may normalise within the model.
    """
    normalises = arguments.get("include_preprocessing", False)
    own = own and "include_preprocessing" not in overrides
    if arguments.get("preprocessor") is not None or "preprocessor" in overrides:
        return None
    return None if own and normalises else without_preprocessing(name, normalises)


def _facts(family, arguments):
    """What the layouts must know of a source with these arguments."""
    described = _with_defaults(family, arguments)  # our own files leave some out
    if "patch_size" in described:
        described["patch_size"] = as_pair(described["patch_size"], "patch_size")
    return family.read.facts(described)


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
    """The arguments with the caller's changes, and those that depend on them."""
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
    preprocessor, channels = changed.get("preprocessor"), changed.get("num_channels")
    theirs = preprocessor is not None and "preprocessor" not in overrides
    if theirs and "num_channels" in overrides and len(preprocessor.mean) != channels:
        changed["preprocessor"] = preprocessor_for_channels(preprocessor, channels)
    return changed


def _same_mathematics(family, config, arguments, *, said, name):
    """Raises where the source computes otherwise than the model; gives notes where it may.

    What the source leaves to its library's default is compared as `from_pretrained` takes it.
    `said` is whether it has a configuration, which says what tensors cannot.
    """
    theirs = {key: _plain(value) for key, value in _with_defaults(family, arguments).items()}
    config = {key: _plain(value) for key, value in config.items()}
    keys = family.read.ARITHMETIC | (family.read.DESCRIBED if said else set())
    wrong = {key: theirs[key] for key in sorted(keys) if theirs[key] != config[key]}
    if wrong:
        ours = {key: config[key] for key in wrong}
        raise CheckpointError(
            f"{name} was computed with other settings than the model: build the model with "
            f"{wrong}, or use keras_vit.from_pretrained. Received: {ours}"
        )
    silent = [key for key in sorted(family.read.DESCRIBED - keys) if theirs[key] != config[key]]
    return [
        f"{key}={config[key]!r} is the model's; the source does not say it, and from_pretrained "
        f"takes {theirs[key]!r}"
        for key in silent
    ]


def _plain(value):
    """The value, or None if it is 0 or all zeros, which some arguments mean by it."""
    return value if any(value if isinstance(value, (list, tuple)) else (value,)) else None


def _with_defaults(family, arguments):
    """The arguments with the defaults of the model's class where they leave some out."""
    parameters = inspect.signature(family.build).parameters.values()
    return {p.name: p.default for p in parameters} | arguments


def _initialize(model, paths):
    """Gives weights of a model that was built with `no_initialization` their initial values.

    They are taken from a new layer of the same configuration.
    """
    for name in dict.fromkeys(path.partition("/")[0] for path in paths):
        layer = model.get_layer(name)
        new = type(layer).from_config(layer.get_config())
        new.build_from_config(layer.get_build_config())
        values = {weight.path.partition("/")[2]: weight for weight in new.weights}
        for weight in layer.weights:
            if weight.path in paths:
                weight.assign(ops.copy(values[weight.path.partition("/")[2]]))
