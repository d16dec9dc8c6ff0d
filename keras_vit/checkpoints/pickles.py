"""Reads the pickles of PyTorch checkpoints without running them.

A pickle is a program. Python's own `pickle` executes it, and whoever wrote the file decides what
runs. Here the few instructions that dicts of tensors need are interpreted, and there is none that
calls anything: a call of a known name becomes data, a call of any other name an error.

Source: the instructions are documented in CPython's `pickletools`.
"""

import pickletools
from typing import NamedTuple

from keras_vit.checkpoints.files import CheckpointError


class Name(NamedTuple):
    """A Python name that a pickle mentions: never imported."""

    name: str


class Storage(NamedTuple):
    """Where the numbers of a tensor lie: `key` within the file, `numel` of one type."""

    type: str
    key: str
    numel: int


class TorchTensor(NamedTuple):
    """A tensor as a view of its storage, offset and strides in numbers."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


class Inert(list):
    """An object of a harmless class, kept only so that the dict around it can be read."""


# Objects that training scripts leave beside the weights. Their content is not used.
HARMLESS = {
    "argparse Namespace",
    "collections defaultdict",
    "numpy dtype",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar",
    "torch Size",
    "torch device",
    "pathlib PosixPath",
    "yacs.config CfgNode",
}
MARK = object()


def interpret(file):
    """The value that one pickle describes.

    Args:
        file: binary file at the start of a pickle; it is then behind its end.

    Returns:
        Dicts, lists, tuples, str, numbers; tensors as `TorchTensor`.

    Raises:
        CheckpointError: for a pickle that calls anything but what makes tensors.
        ValueError: for one that is broken.
    """
    stack, memo = [], {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name in LITERALS:
            stack.append(LITERALS[name](argument))
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(Name(f"{module} {attribute}"))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("TUPLE", "LIST", "DICT"):
            items = _pop_mark(stack)
            kind = {"TUPLE": tuple, "LIST": list, "DICT": _as_dict}[name]
            stack.append(kind(items))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _pop_mark(stack)
            _expect(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = _pop_pair(stack) if name == "SETITEM" else _pop_mark(stack)
            if not isinstance(stack[-1], Inert):
                _expect(stack[-1], dict).update(_as_dict(items))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            stack.append(_known_call(stack.pop(), arguments))
        elif name == "BUILD":
            stack.pop()  # attributes of what is on the stack: an OrderedDict's `_metadata`, say
            if not isinstance(stack[-1], (dict, Inert)):
                raise ValueError("attributes for what has none")
        elif name == "POP":
            stack.pop()
        else:
            raise CheckpointError(
                "The pickle does more than to hold a dict of tensors. Nothing of it was run; save "
                f"the weights with torch.save(model.state_dict(), path). Received: {name}"
            )
    raise ValueError("the pickle has no end")


def _known_call(function, arguments):
    """What calling `function` would give, for those few names that make tensors."""
    name = _expect(function, Name).name
    arguments = _expect(arguments, tuple)
    if name == "collections OrderedDict":
        return _as_dict([item for pair in (arguments[0] if arguments else ()) for item in pair])
    if name == "torch._utils _rebuild_tensor_v2":
        storage, offset, shape, strides = arguments[:4]
        for number in (offset, *shape, *strides):
            if not isinstance(number, int) or not 0 <= number < 2**40:
                raise ValueError(f"a tensor of offset {offset}, shape {shape}, strides {strides}")
        if len(shape) != len(strides) or len(shape) > 32:
            raise ValueError(f"a tensor of shape {shape}, strides {strides}")
        return TorchTensor(_expect(storage, Storage), offset, tuple(shape), tuple(strides))
    if name == "torch._utils _rebuild_parameter":
        return _expect(arguments[0], TorchTensor)
    if name in HARMLESS:
        return Inert()
    raise CheckpointError(
        "The pickle wants to run code that weights do not need; nothing of it was run. If you "
        "trust the file, load it with PyTorch and save the state_dict alone; if you do not, delete "
        "it. "
        f"Received: a call of {name.replace(' ', '.')}"
    )


def _storage(persistent_id):
    kind, storage_type, key, _, numel = _expect(persistent_id, tuple)[:5]
    if kind != "storage" or not isinstance(numel, int) or not isinstance(key, str):
        raise ValueError(f"a persistent id {persistent_id!r}")
    return Storage(_expect(storage_type, Name).name.removeprefix("torch "), key, numel)


def _pop_mark(stack):
    items = []
    while (item := stack.pop()) is not MARK:
        items.append(item)
    return items[::-1]


def _pop_pair(stack):
    value, key = stack.pop(), stack.pop()
    return [key, value]


def _as_dict(items):
    keys, values = items[::2], items[1::2]
    if not all(isinstance(key, (str, int, float)) or key is None for key in keys):
        raise ValueError("a dict with keys that are neither names nor numbers")
    if len(set(keys)) != len(keys):
        raise ValueError("a dict in which a key comes twice")
    return dict(zip(keys, values, strict=True))


def _expect(value, kind):
    if not isinstance(value, kind):
        raise ValueError(f"{kind.__name__} expected, {type(value).__name__} found")
    return value


def _constant(value):
    return lambda argument: value


def _same(argument):
    return argument


LITERALS = {
    "MARK": _constant(MARK),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_TUPLE": _constant(()),
    "EMPTY_DICT": lambda argument: {},
    "EMPTY_LIST": lambda argument: [],
    "GLOBAL": Name,
}
NUMBERS_AND_TEXTS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINSTRING SHORT_BINSTRING"
)
LITERALS.update(dict.fromkeys(NUMBERS_AND_TEXTS.split(), _same))
