"""Chooses the model to load among those in a file, or names the choices."""

from typing import NamedTuple

from keras_vit.checkpoints.candidates import CHUNK, INNER, Match, anchors, models, wrappers
from keras_vit.checkpoints.errors import ArgumentError, CheckpointError
from keras_vit.checkpoints.families import tables
from keras_vit.checkpoints.untrusted import brief

MAX_MODELS = 8  # of a file: each is matched with many tables
MAX_LISTED = 6


class Choice(NamedTuple):
    """A model of a file.

    Attributes:
        part: str, the dict of tensors that it is in: "" for a file of one, else the keys that lead
            to it, "teacher" or "state.model".
        match: `Match` of its tensors.
        notes: list of str, what was decided that neither the file nor the caller said.
    """

    part: str
    match: Match
    notes: list = []

    def words(self):
        """Set of the keys and name segments that lead to the model."""
        return set(f"{self.part}.{self.match.prefix}".split("."))


class Method(NamedTuple):
    """A training method that keeps two copies of a model, one of which its authors evaluate.

    Attributes:
        name: str.
        taken, other: str, what stands before the names of either copy.
        mark: str in the names of tensors beside both, by which the method is known.
    """

    name: str
    taken: str
    other: str
    mark: str


METHODS = (
    Method("DINO", "teacher", "student", "head.last_layer"),  # dino_head. and ibot_head. too
    Method("MoCo v3", "base_encoder", "momentum_encoder", "predictor."),
)


def choose(parts, path, config=None, part=None, prefix=None, of_tasks=True):
    """Finds the model of a file: the only one, or the one that the caller asks for.

    Args:
        parts: dict of name to dict of tensor name to `Tensor`: all dicts of tensors in the file.
        path: where they are from, for errors.
        config: the source's configuration, or None.
        part: str, the only dict to look at, or None.
        prefix: str, what stands before the names of the model, or None.
        of_tasks: bool, whether the model may be that of a task, or else an encoder alone.

    Returns:
        `Choice`.

    Raises:
        CheckpointError: where no table explains a patch embedding and a block, for several models,
            and for tensors of one that cannot be told apart.
        ArgumentError: for a part or a prefix where there is no model.
    """
    known = tables(config, of_tasks)
    if part is not None and part not in parts:
        there = dict.fromkeys(choice.part for choice in _models(parts, known)) or parts
        raise ArgumentError(
            f"part must be a dict of tensors in {path}: {_listed(map(repr, there))}. "
            f"Received: part={part!r}"
        )
    asked = parts if part is None else {part: parts[part]}
    prefix = f"{prefix}." if prefix and not prefix.endswith((".", "/")) else prefix
    found = _models(asked, known, prefix)
    if not found and prefix is not None and (there := _models(asked, known)):
        prefixes = dict.fromkeys(repr(choice.match.prefix) for choice in there)
        raise ArgumentError(
            f"prefix must be what stands before the names of a model in {path}: "
            f"{_listed(prefixes)}. Received: prefix={prefix!r}"
        )
    if not found:
        raise _no_model(asked, path, known)
    chosen, note = _by_method(found, asked) if len(found) > 1 else (found[0], None)
    if chosen is None:
        raise CheckpointError(
            f"{path} holds several models: choose one with {_ways(found)}. "
            f"Received: {_said(part, prefix) or 'neither part= nor prefix='}"
        )
    if chosen.match.error is not None:
        raise chosen.match.error
    return chosen._replace(notes=[*_notes(chosen, parts), *([note] if note else [])])


def match(tensors, path, config=None):
    """The `Match` of the only model of a dict of tensors; arguments and errors as of `choose`."""
    return choose({"": tensors}, path, config).match


def _models(parts, known, prefix=None):
    """list of `Choice` for all models, without those that share all tensors with another."""
    first = anchors(known)
    found = {name: wrappers(tensors, first) for name, tensors in parts.items()}
    count = sum(
        len({wrapper + own for (_, own), there in places.items() for wrapper in there})
        for places in found.values()
    )
    if count > MAX_MODELS:
        raise CheckpointError(
            f"A file must hold at most {MAX_MODELS} models. Received: {count} patch embeddings"
        )
    choices, seen = [], []
    for name, places in found.items():
        for matched in models(parts[name], places, known, prefix) if places else ():
            tensors = {
                (row, number, source): parts[name][x]
                for (row, number), sources in matched.found.items()
                for source, x in sources.items()
            }
            if tensors not in seen:
                choices.append(Choice(name, matched))
                seen.append(tensors)
    return choices


def _by_method(found, parts):
    """(`Choice`, note) if a known training method keeps these two models, else (None, None)."""
    for method in METHODS:
        marked = any(method.mark in name for x in found for name in parts[x.part])
        taken = [x for x in found if method.taken in x.words()]
        others = [x for x in found if method.other in x.words()]
        if marked and len(taken) == len(others) == 1 and len(found) == 2 and taken != others:
            return taken[0], (
                f"of {method.name}'s two models the {method.taken}, which its authors evaluate; "
                f"{_way(others[0], found)} loads the {method.other}"
            )
    return None, None


def _way(choice, found):
    """The arguments that choose this model among those found."""
    ways = {
        "part": len({x.part for x in found}) > 1,
        "prefix": sum(x.part == choice.part for x in found) > 1,
    }
    return _said(
        choice.part if ways["part"] else None,
        choice.match.wrapper if ways["prefix"] else None,
    )


def _ways(found):
    return _listed([_way(choice, found) for choice in found], " or ")


def _said(part, prefix):
    said = {"part": part, "prefix": prefix}
    return " with ".join(f"{name}={value!r}" for name, value in said.items() if value is not None)


def _listed(words, separator=", "):
    words = list(words)
    more = f" and {len(words) - MAX_LISTED} more" if len(words) > MAX_LISTED else ""
    return separator.join(word[:100] for word in words[:MAX_LISTED]) + more


def _notes(choice, parts):
    """What was looked through and stripped to find the model."""
    notes, matched = [], choice.match
    if choice.part:
        others = dict.fromkeys(_beside(name, choice.part) for name in parts if name != choice.part)
        left = f"; not read: {_listed(others)}" if others else ""
        notes.append(f"read from part {choice.part!r} of the file{left}")
    if matched.wrapper:
        notes.append(f"stripped from the names: {matched.wrapper}")
    names = {x for sources in matched.found.values() for x in sources.values()}
    rest = [name.removeprefix(matched.wrapper) for name in names]
    inner = sorted({word for name in rest for word in INNER.findall(name)})
    if inner:
        notes.append(f"stripped within the names: {_listed(inner)}")
    if any(CHUNK.search(INNER.sub("", name)) for name in rest):
        notes.append("stripped from chunked blocks: the chunk's number (blocks.0.3. is blocks.3.)")
    return notes


def _beside(name, chosen):
    """The shortest start of a part's name that differs from the chosen one's."""
    words, ours = name.split("."), chosen.split(".")
    same = 0
    while same < min(len(words), len(ours)) and words[same] == ours[same]:
        same += 1
    return ".".join(words[: same + 1])


def _no_model(parts, path, known):
    names = ", ".join(dict.fromkeys(table.name for table in known))
    tensors = sorted(name for part in parts.values() for name in part)
    return CheckpointError(
        f"{path} holds no Vision Transformer that keras_vit knows. Expected: tensors with the "
        f"names of {names}. Received: {len(tensors)} tensors such as {brief(tensors[:3])}"
    )
