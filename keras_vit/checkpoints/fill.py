"""Fills a model with the tensors of a source: plan, check, then assign."""

import difflib
import re
from typing import NamedTuple

import ml_dtypes
import numpy as np
from keras import ops

from keras_vit.checkpoints import layouts
from keras_vit.checkpoints.adapt import CHANNELS, RESAMPLED
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.report import LoadReport
from keras_vit.checkpoints.tables import Row, as_tuple
from keras_vit.terminal import printable

MAX_NEAR = 200  # names, and characters of one


class Step(NamedTuple):
    """What fills the weights of one row: the names of its tensors, and the weights' paths."""

    row: Row
    names: list
    paths: list


def fill(reader, matched, adapter, name, *, optional=None, skipped=None, standing=False):
    """Assigns every tensor, or raises before the first assignment if one does not fit.

    Args:
        reader: `Reader` of the source.
        matched: `Match`, which of its tensors is which.
        adapter: `Adapter`, of the model to fill.
        name: str, the source, for errors and for the report.
        optional: dict of pattern to reason: weights that need not be in the source, nor its tensors
            in the model.
        skipped: dict of pattern to reason: weights that are left alone whatever the source has.
        standing: whether the model may be somebody's. All data is then read and checked first, and
            whatever interrupts the assignments, the model gets its own values back: it takes memory
            for one more copy of the weights.

    Returns:
        `LoadReport`.

    Raises:
        CheckpointError: where anything is missing, unknown, of another shape or broken.
    """
    filling = _Filling(reader, matched, adapter, name)
    filling.plan(optional or {}, skipped or {})
    filling.assign_all_or_nothing() if standing else filling.assign()
    filling.report.used = [(step.names, step.paths) for step in filling.steps]
    return filling.report


class _Filling:
    """One model that is filled from one source: `plan` it, then `assign` what is planned.

    Attributes:
        weights: dict of path to the model's weight.
        steps: list of `Step`, once it is planned.
        report: `LoadReport`, which says what is left out, resampled and adapted.
    """

    def __init__(self, reader, matched, adapter, name):
        self.reader, self.matched, self.adapter = reader, matched, adapter
        self.weights = {w.path: w for w in adapter.model.weights if "seed_generator" not in w.path}
        self.steps = []
        self.report = LoadReport(name, matched.table.name, dropped=dict(matched.dropped))

    def plan(self, optional, skipped):
        """Finds the steps from names and shapes, without reading data."""
        missing, unknown, dropped = [], list(self.matched.unknown), self.report.dropped
        for (row, number), sources in self.matched.found.items():
            targets = [_path(target, number) for target in as_tuple(row.targets)]
            paths = [path for path in targets if path in self.weights]
            names = [sources[s] for s in as_tuple(row.sources) if s in sources]
            reason = _reason(targets, skipped) or ("" if paths else _reason(targets, optional))
            absent = [s for s in as_tuple(row.sources) if s not in sources]
            if reason:
                dropped.update(dict.fromkeys(names, reason))
            elif not paths:
                unknown += names
            elif absent:
                prefix = self.matched.prefix
                missing += [prefix + _path(source, number, digits=0) for source in absent]
            else:
                step, reason = Step(row, names, paths), _reason(paths, optional)
                if self._fits(step, reason):
                    self.steps.append(step)
                else:
                    dropped.update(dict.fromkeys(names, reason))
        planned = {path for step in self.steps for path in step.paths}
        for path in sorted(self.weights.keys() - planned):
            reason = _reason([path], skipped) or _reason([path], optional)
            if reason:
                self.report.fresh[path] = reason
            else:
                missing.append(path)
        used = {x for step in self.steps for x in step.names}
        unknown = sorted(set(unknown) - used)  # a tensor may belong to two rows
        self.report.dropped = {x: reason for x, reason in dropped.items() if x not in used}
        if missing or unknown:
            raise CheckpointError(_mismatch(self.report.source, missing, unknown, self.matched))

    def assign(self):
        """Assigns step by step, as the data is read."""
        for step in self.steps:
            for path, array in self._arrays(step).items():
                self.weights[path].assign(array)

    def assign_all_or_nothing(self):
        """Reads everything, then assigns; if that is interrupted, restores the old values."""
        arrays, before = {}, {}
        for step in self.steps:
            arrays.update(self._arrays(step))
        try:
            for path in list(arrays):
                # A copy, whatever memory a backend shares with NumPy.
                before[path] = np.array(ops.convert_to_numpy(self.weights[path]))
                self.weights[path].assign(arrays.pop(path))
        except BaseException:
            for path, value in before.items():
                self.weights[path].assign(value)
            raise

    def _fits(self, step, reason):
        """Whether the arrays of a row have the shapes of its weights, without reading them.

        What an `Adapter` makes of another size fits too. For any other difference this is False
        where there is a `reason` to leave the weights out, and otherwise an error.
        """
        tensors = [self.reader.tensors[x] for x in step.names]
        for x, tensor in zip(step.names, tensors, strict=True):
            if tensor.dtype.kind != "f" and tensor.dtype != ml_dtypes.bfloat16:
                raise CheckpointError(
                    f"{x!r} must hold floating-point numbers. Received: {tensor.dtype}"
                )
        dummies = [np.broadcast_to(np.int8(0), tensor.shape) for tensor in tensors]
        for path, array in self._laid_out(step, dummies).items():
            expected = tuple(self.weights[path].shape)
            changes = self.adapter.changes(path, array.shape, expected)
            if changes is None and reason:
                return False
            if changes is None:
                raise CheckpointError(
                    f"{' + '.join(step.names)} does not fit {path}; nothing was loaded. Expected: "
                    f"the shape {expected}. Received: {array.shape}, laid out from "
                    f"{[tensor.shape for tensor in tensors]}"
                )
            if RESAMPLED in changes:
                self.report.resampled.append(path)
            if CHANNELS in changes:
                self.report.adapted[path] = self.adapter.channels(path, array.shape, expected)
        return True

    def _laid_out(self, step, arrays):
        facts = self.adapter.facts
        targets = [(path, self.weights[path].shape[-1]) for path in step.paths]
        try:
            return layouts.read(step.row.layout, arrays, targets, facts and facts.at(step.paths[0]))
        except (ValueError, IndexError) as error:
            raise CheckpointError(
                f"{' + '.join(step.names)} cannot be laid out as {step.row.layout} for "
                f"{', '.join(step.paths)}; nothing was loaded. "
                f"Received: shapes {[x.shape for x in arrays]}: {error}"
            ) from error

    def _arrays(self, step):
        """Reads the arrays of a step's weights: float32, finite and in the right shapes."""
        arrays = [self.reader.read(name) for name in step.names]
        for name, array in zip(step.names, arrays, strict=True):
            if not np.isfinite(array.astype("float32", copy=False)).all():
                raise CheckpointError(
                    f"{name!r} holds NaN or infinite numbers; nothing was loaded. Received: "
                    f"{int((~np.isfinite(array.astype('float32'))).sum())} of {array.size}"
                )
        return {
            path: self.adapter.apply(path, array, tuple(self.weights[path].shape))
            for path, array in self._laid_out(step, arrays).items()
        }


def _path(pattern, number, digits=2):
    return pattern if number is None else pattern.replace("{i}", f"{int(number):0{digits}d}")


def _reason(paths, reasons):
    """The reason of the first pattern that matches one of `paths`, or None."""
    for pattern in reasons:
        if any(re.fullmatch(pattern, path) for path in paths):
            return reasons[pattern]
    return None


def _mismatch(name, missing, unknown, matched):
    lines = [
        f"{name} does not fit; nothing was loaded. Expected: a tensor for every weight and one "
        f"weight for every tensor, with the names of {matched.table.name}."
    ]
    for title, names, others in (
        ("weights without a tensor", missing, unknown),
        ("tensors without a weight", unknown, missing),
    ):
        if names:
            lines.append(f"Received {len(names)} {title}:")
            short = [x for x in others[:MAX_NEAR] if len(x) < MAX_NEAR]  # comparing is slow
            for x in names[:12]:
                near = difflib.get_close_matches(x[:MAX_NEAR], short, 1, 0.6)
                line = f"  {x[:MAX_NEAR]}" + (f" (near: {near[0]})" if near else "")
                lines.append(printable(line))
            if len(names) > 12:
                lines.append(f"  and {len(names) - 12} more")
    return "\n".join(lines)
