"""Finds the table of names that fits a file, and matches each tensor to a row."""

import functools
import re
from typing import NamedTuple

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.families import tables
from keras_vit.checkpoints.tables import Names, as_tuple
from keras_vit.checkpoints.untrusted import brief

# What training tools put before the names of the model within them, the copy to take first.
_WRAPPERS = """
    teacher backbone encoder base_encoder ema module_ema module _orig_mod model net network student
    momentum_encoder
"""
WRAPPERS = _WRAPPERS.split()
_WRAPPED = re.compile(rf"((?:{'|'.join(WRAPPERS)})\.)*")
_CHUNK = re.compile(r"(^|\.)blocks\.\d+\.(?=\d+\.)")  # blocks in groups: blocks.0.3. for blocks.3.


class Match(NamedTuple):
    """The tensors of a file, grouped by the rows of a table.

    Attributes:
        table: `Names` that fits best.
        prefix: str before every name.
        found: dict of (row, block number as text or None) to {source pattern: tensor's name}.
        dropped: dict of tensor name to the reason why it is left out.
        unknown: list of the names that no row knows.
    """

    table: Names
    prefix: str
    found: dict
    dropped: dict
    unknown: list


def match(tensors, path, config=None):
    """Finds the table and prefix that explain most of the names.

    Args:
        tensors: dict of name to `Tensor`.
        path: where they are from, for errors.
        config: the source's configuration, or None; where two tables explain as much, it
            tells which family a `.keras` file is of.

    Returns:
        `Match`.

    Raises:
        CheckpointError: where no table explains a patch embedding and a block.
    """
    candidates = tables(config)
    known = functools.cache(lambda block, wrapper: _patterns(tensors, block, wrapper))
    tried = [
        _match(known(table.block, wrapper), table, prefix, wrapper)
        for table in candidates
        for prefix in table.prefixes
        for wrapper in _wrappers(tensors, table, prefix)
        if all(wrapper + prefix + mark in tensors for mark in table.marks)
    ]
    whole = [m for m in tried if set(m.table.needed) <= _targets(m)]
    if not whole:
        names = ", ".join(dict.fromkeys(table.name for table in candidates))
        raise CheckpointError(
            f"{path} holds no Vision Transformer that is known here. Expected: tensors named as by "
            f"{names}. Received: {len(tensors)} tensors such as {brief(sorted(tensors)[:3])}"
        )
    return max(whole, key=lambda m: len({x for names in m.found.values() for x in names.values()}))


def _targets(matched):
    return {target for row, _ in matched.found for target in as_tuple(row.targets)}


def _wrappers(tensors, table, prefix):
    """Prefixes before the names of the whole model: none, or "module." and the like."""
    anchors = [
        prefix + source
        for row in table.rows
        if table.needed[0] in as_tuple(row.targets)
        for source in as_tuple(row.sources)
    ]
    found = {name.removesuffix(x) for x in anchors for name in tensors if name.endswith(x)}
    known = {x for x in found if _WRAPPED.fullmatch(x)} or {""}
    return sorted(known, key=lambda x: [WRAPPERS.index(part) for part in x.split(".")[:-1]])


def _patterns(names, block, wrapper):
    """dict of name to what it is without wrapper and chunk, and of that (number, pattern).

    The number is the first block's in it, or None; the pattern has {i} in its place.
    """
    found = {}
    for name in names:
        plain = _CHUNK.sub(r"\1blocks.", name.removeprefix(wrapper))
        number = re.search(block, plain)
        pattern = f"{plain[: number.start()]}{{i}}{plain[number.end() :]}" if number else plain
        found[name] = (plain, number and number[0], pattern)
    return found


def _match(patterns, table, prefix, wrapper):
    rows = {}
    for row in table.rows:
        for source in as_tuple(row.sources):
            rows.setdefault(prefix + source, []).append((row, source))
    found, dropped, unknown = {}, {}, []
    for name, (plain, first, pattern) in patterns.items():
        # A head stands outside of the prefix: vit.embeddings.cls_token, but classifier.weight.
        known = rows.get(pattern) or rows.get(plain) or rows.get(prefix + plain)
        if known is None:
            reason = _reason_to_drop(plain, table, prefix)
            if not name.startswith(wrapper):
                reason = reason or f"stands outside of {wrapper}, where the model is"
            if reason:
                dropped[name] = reason
            else:
                unknown.append(name)
            continue
        for row, source in known:
            number = first if "{i}" in source else None
            if source in found.setdefault((row, number), {}):
                raise CheckpointError(
                    f"Two tensors are {source!r}. Received: {name!r} and "
                    f"{found[row, number][source]!r}"
                )
            found[row, number][source] = name
    return Match(
        table=table, prefix=wrapper + prefix, found=found, dropped=dropped, unknown=unknown
    )


def _reason_to_drop(name, table, prefix):
    names = {name, name.removeprefix(prefix)}
    for pattern, reason in table.dropped.items():
        if any(re.fullmatch(pattern, name) for name in names):
            return reason
    return None
