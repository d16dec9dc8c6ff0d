"""Reads the pickles of PyTorch checkpoints without running code.

A pickle is a program. Python's own `pickle` executes it, so the author of the file decides what
runs. Here only the few instructions that dicts of tensors need are interpreted, and none of them
calls anything: a call of a known name becomes data, a call of any other name is an error.

A small program can describe a huge value, by values that each refer twice to the next. So values
are built but never walked, hashed or compared, their number is limited, and so is the length of
strings that are copied.

Source: the instructions are documented in CPython's `pickletools`.
"""

import pickletools
from typing import NamedTuple

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.untrusted import MAX_AXES, MAX_NUMBER, brief, is_count

MAX_OPERATIONS = 1_000_000  # a model needs some 20 a tensor; a million take a second
MAX_TEXT = 1000  # characters of a name or key


class Name(NamedTuple):
    """A Python name in a pickle; it is never imported."""

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
    """Stands for an object of a harmless class, so that the dict around it can be read."""


# What training scripts leave beside the weights: a call of any of these gives an `Inert`.
HARMLESS = {
    "_codecs encode",
    "argparse Namespace",
    "collections Counter",
    "collections defaultdict",
    "numpy dtype",
    "numpy.core.multiarray _reconstruct",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray _reconstruct",
    "numpy._core.multiarray scalar",
    "torch Size",
    "torch device",
    "pathlib PosixPath",
    "yacs.config CfgNode",
}
MARK = object()


def interpret(file, storages=None):
    """The value that one pickle describes.

    Args:
        file: binary file at the start of a pickle; it is then behind its end.
        storages: list that gets every `Storage` that the pickle names, or None.

    Returns:
        Dicts, lists, tuples, str, numbers; tensors as `TorchTensor`.

    Raises:
        CheckpointError: for a pickle that calls anything but what makes tensors.
        ValueError: for one that is broken.
    """
    stack, memo, spent = [], {}, 0
    for opcode, argument, _ in pickletools.genops(file):
        spent += 1
        if spent > MAX_OPERATIONS:
            raise ValueError(f"a pickle of more than {MAX_OPERATIONS} values")
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
            stack.append(_name(f"{text(module)} {text(attribute)}"))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = tuple(stack.pop() for _ in range(int(name[-1])))
            stack.append(items[::-1])
        elif name in ("TUPLE", "LIST", "DICT"):
            items = _pop_mark(stack)
            kind = {"TUPLE": tuple, "LIST": list, "DICT": _dict}[name]
            stack.append(kind(items))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _pop_mark(stack)
            _expect(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = _pop_pair(stack) if name == "SETITEM" else _pop_mark(stack)
            if not isinstance(stack[-1], Inert):
                _put(_expect(stack[-1], dict), items)
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
            if storages is not None:
                storages.append(stack[-1])
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            stack.append(_known_call(stack.pop(), arguments))
            if isinstance(stack[-1], dict):
                spent += len(stack[-1])  # of pairs that may serve many times
        elif name == "BUILD":
            stack.pop()  # attributes of what is on the stack: an OrderedDict's `_metadata`, say
            if not isinstance(stack[-1], (dict, Inert)):
                raise ValueError("attributes for what has none")
        elif name == "POP":
            stack.pop()
        else:
            raise CheckpointError(
                "The pickle does more than hold tensors; none of its code was run. Save the "
                f"weights with torch.save(model.state_dict(), path). Received: {name}"
            )
    raise ValueError("the pickle has no end")


def _known_call(function, arguments):
    """The data for a call of `function`, one of the few names that make tensors."""
    name = _expect(function, Name).name
    arguments = _expect(arguments, tuple)
    if name == "collections OrderedDict":
        pairs = arguments[0] if arguments else ()
        if not isinstance(pairs, (list, tuple)) or not all(map(_is_pair, pairs)):
            raise ValueError("an OrderedDict of other things than pairs")
        return _dict([item for pair in pairs for item in pair])
    if name == "torch._utils _rebuild_tensor_v2":
        storage, offset, shape, strides = arguments[:4]
        for axes in (shape, strides):
            if len(_expect(axes, tuple)) > MAX_AXES or not all(map(is_count, axes)):
                raise ValueError(f"a tensor of shape {brief(shape)}, strides {brief(strides)}")
        if len(shape) != len(strides) or not is_count(offset):
            raise ValueError(
                f"a tensor of offset {brief(offset)}, shape {brief(shape)}, strides "
                f"{brief(strides)}"
            )
        return TorchTensor(_expect(storage, Storage), offset, shape, strides)
    if name == "torch._utils _rebuild_parameter":
        return _expect(arguments[0], TorchTensor)
    if name in HARMLESS:
        return Inert()
    raise CheckpointError(
        "The pickle calls code that weights do not need; none of its code was run. If you trust "
        "the file, load it with PyTorch and save only the state_dict; if you do not, delete it. "
        f"Received: a call of {name.replace(' ', '.')}"
    )


def _storage(persistent_id):
    kind, storage_type, key, _, numel, *view = _expect(persistent_id, tuple)[:6]
    if kind != "storage" or not is_count(numel) or any(x is not None for x in view):
        raise ValueError(f"a persistent id {brief(persistent_id)}")
    return Storage(_expect(storage_type, Name).name.removeprefix("torch "), text(key), numel)


def _is_pair(value):
    return isinstance(value, (list, tuple)) and len(value) == 2


def text(value):
    """The value, which must be a str short enough to be copied and compared."""
    if len(_expect(value, str)) > MAX_TEXT:
        raise ValueError(f"a name of {len(value)} characters")
    return value


def _name(argument):
    return Name(text(argument))


def _pop_mark(stack):
    items = []
    while (item := stack.pop()) is not MARK:
        items.append(item)
    return items[::-1]


def _pop_pair(stack):
    value, key = stack.pop(), stack.pop()
    return [key, value]


def _dict(items):
    return _put({}, items)


def _put(target, items):
    """Puts alternating keys and values into `target`; keys are unique names or small numbers."""
    if len(items) % 2:
        raise ValueError("a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, str):
            text(key)
        elif isinstance(key, int):
            if abs(key) >= MAX_NUMBER:
                raise ValueError(f"the key {brief(key)}")
        elif key is not None and not isinstance(key, float):
            raise ValueError("a dict with keys that are neither names nor numbers")
        if key in target:
            raise ValueError(f"a dict in which {brief(key)} comes twice")
        target[key] = value
    return target


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
    "GLOBAL": _name,
}
NUMBERS_AND_TEXTS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINSTRING SHORT_BINSTRING"
)
LITERALS.update(dict.fromkeys(NUMBERS_AND_TEXTS.split(), _same))
