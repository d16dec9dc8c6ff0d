"""Finds the models among the tensors of a file, and matches each tensor to a row of a table.

Training tools put prefixes before the names of a model (`module.`, `teacher.backbone.`) and wrapper
modules into them (`blocks.0._orig_mod.attn`). No list says which prefixes there are: a prefix is
whatever stands before a tensor that a table needs.
"""

import functools
import itertools
import re
from typing import NamedTuple

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.families import family
from keras_vit.checkpoints.tables import Names, as_tuple

# Wrapper modules within a name. Those of torch.compile, FSDP and activation checkpointing begin
# with an underscore (_orig_mod, _fsdp_wrapped_module, _checkpoint_wrapped_module), as no name of a
# table does; DataParallel's is `module`.
_WRAPPER = r"(?:_\w+|module)"
INNER = re.compile(rf"(?<=\.){_WRAPPER}\.")
CHUNK = re.compile(r"(^|\.)blocks\.\d+\.(?=\d+\.)")  # blocks in groups: blocks.0.3. for blocks.3.


class Match(NamedTuple):
    """The tensors of a model, grouped by the rows of a table.

    Attributes:
        table: `Names` that fits best.
        prefix: str before every name: the wrapper's, then the table's own.
        found: dict of (row, block number as text or None) to {source pattern: tensor's name}.
        dropped: dict of tensor name to the reason why it is left out.
        unknown: list of the names that no row knows.
        wrapper: str before every name that the table does not know.
        error: `CheckpointError` that says why these tensors are no model, or None.
    """

    table: Names
    prefix: str
    found: dict
    dropped: dict
    unknown: list
    wrapper: str = ""
    error: CheckpointError | None = None

    @property
    def count(self):
        """How many tensors the table explains."""
        return len({name for sources in self.found.values() for name in sources.values()})


FIRST = ("0", "00")  # a block's number in the names of the first one, in others' files and ours


def anchors(tables):
    """The first tensor that each table needs, of the first block where every block has one.

    Args:
        tables: list of `Names`.

    Returns:
        dict of its name to a list of (number of the table, the table's own prefix).
    """
    found = {}
    for number, table in enumerate(tables):
        for row in table.rows:
            if table.needed[0] in as_tuple(row.targets):
                for own, source in itertools.product(table.prefixes, as_tuple(row.sources)):
                    for name in dict.fromkeys(source.replace("{i}", i) for i in FIRST):
                        found.setdefault(own + name, []).append((number, own))
    return found


def wrappers(names, anchors):
    """What stands before the first tensor that a table needs.

    Args:
        names: the tensors' names.
        anchors: what `anchors` gives.

    Returns:
        dict of (number of the table, the table's own prefix) to a set of str, each empty or with a
        dot at its end.
    """
    found = {}
    for name in names:
        plain = INNER.sub("", name)
        for anchor, places in anchors.items():
            if plain == anchor or plain.endswith(f".{anchor}"):
                for place in places:
                    found.setdefault(place, set()).add(_before(name, anchor.count(".") + 1))
    return found


def _before(name, count):
    """What stands before the last `count` segments of a name; wrapper modules do not count."""
    parts = name.split(".")
    while count and parts:
        count -= not (re.fullmatch(_WRAPPER, parts.pop()) and parts)
    return "".join(f"{part}." for part in parts)


def models(tensors, found, tables, prefix=None):
    """The models that a dict of tensors holds.

    Args:
        tensors: dict of name to `Tensor`.
        found: what `wrappers` found in them.
        tables: list of `Names`, those of `anchors`; of two that explain as much the first counts.
        prefix: str, the only prefix to look at; what stands outside of it is then left out. None
            for any.

    Returns:
        list of `Match`: for every prefix before a whole model, by the table that explains most.
    """
    patterns = functools.cache(lambda block, wrapper: _patterns(tensors, block, wrapper))
    tried = {}  # prefix of a model: the tables and wrappers that may make it
    for number, table in enumerate(tables):
        for own in table.prefixes:
            for wrapper in sorted(found.get((number, own), ())):
                if all(wrapper + own + mark in tensors for mark in table.marks):
                    tried.setdefault(wrapper + own, []).append((table, own, wrapper))

    def best(place, others=()):
        matched = []
        for table, own, wrapper in tried[place]:
            alone = prefix is not None and prefix in (wrapper, place)
            known = patterns(table.block, wrapper)
            matched.append(_match(known, table, own, wrapper, others, alone))
        whole = [m for m in matched if set(m.table.needed) <= _targets(m)]
        # A table's own prefix, outside of which a head may stand, comes before a wrapper's.
        return max(whole, key=lambda m: (m.count, -len(m.wrapper)), default=None)

    alone = {place: m for place in tried if (m := best(place)) is not None}
    whole = [
        best(x, [y for y in alone if y != x]) if len(alone) > 1 else m for x, m in alone.items()
    ]
    return [m for m in whole if m and (prefix is None or prefix in (m.wrapper, m.prefix))]


def _targets(matched):
    return {target for row, _ in matched.found for target in as_tuple(row.targets)}


def _patterns(names, block, wrapper):
    """dict of name to (plain, number, pattern): the name without wrappers and chunk.

    The number is the first block's in it, or None; the pattern has {i} in its place.
    """
    found = {}
    for name in names:
        plain = CHUNK.sub(r"\1blocks.", INNER.sub("", name.removeprefix(wrapper)))
        number = re.search(block, plain)
        pattern = f"{plain[: number.start()]}{{i}}{plain[number.end() :]}" if number else plain
        found[name] = (plain, number and number[0], pattern)
    return found


def _match(patterns, table, own, wrapper, others, alone):
    """Matches the names to a table, whose own prefix follows the wrapper's.

    `others` are the prefixes of other models; `alone` is whether only what stands under the wrapper
    is wanted.
    """
    rows = {}
    for row in table.rows:
        for source in as_tuple(row.sources):
            rows.setdefault(own + source, []).append((row, source))
    found, dropped, unknown, problems = {}, {}, [], []
    for name, (plain, first, pattern) in patterns.items():
        inside = name.startswith(wrapper)
        other = _other(name, wrapper + own, others)
        # A head stands outside of the prefix: vit.embeddings.cls_token, but classifier.weight. The
        # rest of a task's model does too: backbone.0.body.conv1.weight, but input_proj.weight.
        places = (pattern, plain, own + pattern, own + plain)
        known = next((rows[place] for place in places if place in rows), None)
        outside = f"stands outside of {wrapper}, where the model is"
        if other is not None or (alone and not inside):
            dropped[name] = f"belongs to the model under {other}" if inside else outside
        elif known is None:
            reason = _reason_to_drop(plain, table, own) or (None if inside else outside)
            if reason:
                dropped[name] = reason
            else:
                unknown.append(name)
        else:
            is_right = inside or all(_is_of_head(row, table) for row, _ in known)
            problem = None if is_right else f"{name!r} is outside of {wrapper!r}"
            for row, source in known:
                number = first if "{i}" in source else None
                sources = found.setdefault((row, number), {})
                if sources.setdefault(source, name) != name:
                    problem = f"{sources[source]!r} and {name!r} are both {source!r}"
            problems += [problem] if problem else []
    match = Match(table, wrapper + own, found, dropped, unknown, wrapper)
    return match._replace(error=_error(problems, wrapper)) if problems else match


def _other(name, own, others):
    """The prefix of another model that a name belongs to, or None."""
    under = [prefix for prefix in (own, *others) if name.startswith(prefix)]
    longest = max(under, key=len, default=own)
    return None if longest == own else longest


def _is_of_head(row, table):
    pattern = family(table.family).read.EFFECTS.get("num_classes")
    return pattern is not None and all(
        re.fullmatch(pattern, target) for target in as_tuple(row.targets)
    )


def _error(problems, wrapper):
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    advice = f" Pass prefix={wrapper!r} to leave out what stands elsewhere." if wrapper else ""
    return CheckpointError(
        f"Every tensor of the model must have a name of its own under one prefix.{advice} "
        f"Received: {'; '.join(problems[:3])}{more}"
    )


def _reason_to_drop(name, table, own):
    names = {name, name.removeprefix(own)}
    for pattern, reason in table.dropped.items():
        if any(re.fullmatch(pattern, name) for name in names):
            return reason
    return None
