"""Reads the part of HDF5 that Keras writes: groups, text attributes, contiguous arrays.

The HDF5 library reads much more, and on broken files hangs or crashes, so that it would have to run
in a process of its own. Here nothing is read twice: every structure has its own bytes, and all of
them together are no longer than the file. So neither links that form a circle nor a million links
to one array take longer than the file is long.

Source: HDF5 File Format Specification 3.0, https://docs.hdfgroup.org/hdf5/develop/_f_m_t3.html; the
numbers of its sections stand beside the structures.
"""

import math
import struct
from typing import NamedTuple

import ml_dtypes
import numpy as np

from keras_vit.checkpoints.untrusted import MAX_AXES, brief

UNDEFINED = 2**64 - 1
MAX_NAME = 1000  # bytes
# What of IEEE 754 stands in a datatype: bytes, and the places of exponent and mantissa.
FLOATS = {
    (2, struct.pack("<HHBBBBI", 0, 16, 10, 5, 0, 10, 15)): np.dtype("float16"),
    (4, struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127)): np.dtype("float32"),
    (8, struct.pack("<HHBBBBI", 0, 64, 52, 11, 0, 52, 1023)): np.dtype("float64"),
    (2, struct.pack("<HHBBBBI", 0, 16, 7, 8, 0, 7, 127)): np.dtype(ml_dtypes.bfloat16),
}
DATASPACE, DATATYPE, EXTERNAL, LAYOUT, FILTERS, ATTRIBUTE = 0x1, 0x3, 0x7, 0x8, 0xB, 0xC
CONTINUATION, SYMBOL_TABLE = 0x10, 0x11


class Array(NamedTuple):
    """An array of the file: `place` is where its first byte lies."""

    shape: tuple
    dtype: np.dtype
    place: int


class Group(NamedTuple):
    """A group: `members` maps names to addresses of headers, `attributes` names to texts."""

    members: dict
    attributes: dict


class Hdf5File:
    """The structures of an HDF5 file, or of one within another.

    Args:
        file: binary file.
        start: int, the byte where it begins.
        length: int, bytes.

    Raises:
        ValueError: for what is broken, and for what Keras does not write; as every method here.
    """

    def __init__(self, file, start, length):
        self._file, self._start, self._length = file, start, length
        self._left = length  # bytes of structures that may still be read
        self._heaps = {}
        self._seen = set()
        block = self._bytes(0, 96)  # II.A, version 0
        if block[:8] != b"\x89HDF\r\n\x1a\n":
            raise ValueError("no HDF5 signature")
        if block[8:11] != bytes(3) or block[13:15] != b"\x08\x08":
            raise ValueError(f"a superblock of a kind that Keras does not write: {block[8:16]}")
        base, _, end, driver = struct.unpack_from("<4Q", block, 24)
        if base != 0 or driver != UNDEFINED or end != length:
            raise ValueError(f"{end} bytes of HDF5 from byte {base} on in a file of {length}")
        self.root = struct.unpack_from("<Q", block, 64)[0]

    def item(self, address):
        """The `Group` or `Array` whose header is at an address; each of them once."""
        if address in self._seen:
            raise ValueError("two links to one object")
        self._seen.add(address)
        messages = self._messages(address)
        kinds = [kind for kind, _ in messages]
        if SYMBOL_TABLE in kinds:
            tree, heap = struct.unpack("<QQ", messages[kinds.index(SYMBOL_TABLE)][1][:16])
            attributes = [self._attribute(data) for kind, data in messages if kind == ATTRIBUTE]
            return Group(self._members(tree, heap), dict(x for x in attributes if x))
        return self._array({kind: data for kind, data in messages if kind != ATTRIBUTE})

    def _bytes(self, place, length):
        """Bytes of a structure; all structures together cannot exceed the file."""
        if length > self._length - place or place < 0 or length < 0:
            raise ValueError(f"a structure at bytes {place} to {place + length}, beyond the end")
        self._left -= length
        if self._left < 0:
            raise ValueError("structures that overlap")
        self._file.seek(self._start + place)
        data = self._file.read(length)
        if len(data) != length:
            raise ValueError("the file ends too early")
        return data

    def _messages(self, address):
        """[(kind, data), ...] of a header, IV.A.1.a."""
        version, _, count, _, size = struct.unpack("<BBHII", self._bytes(address, 16)[:12])
        if version != 1:
            raise ValueError(f"an object header of version {version}, which Keras does not write")
        blocks, messages = [(address + 16, size)], []
        while blocks and len(messages) < count:
            block, at = self._bytes(*blocks.pop(0)), 0
            while at + 8 <= len(block) and len(messages) < count:
                kind, size, flags = struct.unpack_from("<HHB", block, at)
                data = block[at + 8 : at + 8 + size]
                if len(data) != size or flags & 2:
                    raise ValueError("a message that is not whole, or lies elsewhere")
                at += 8 + size
                messages.append((kind, data))
                if kind == CONTINUATION:
                    blocks.append(struct.unpack("<QQ", data[:16]))
        return messages

    def _members(self, tree, heap):
        """dict of a group's names to addresses: III.A.1 B-trees, III.B symbols, III.D heaps."""
        head = self._bytes(heap, 32)
        if head[:4] != b"HEAP":
            raise ValueError("a group without names")
        size, _, place = struct.unpack_from("<QQQ", head, 8)
        names, members, nodes = self._bytes(place, size), {}, [tree]
        while nodes:
            node = nodes.pop()
            start = self._bytes(node, 8)
            (count,) = struct.unpack_from("<H", start, 6)
            if start[:4] == b"SNOD":
                entries = self._bytes(node + 8, 40 * count)
                for name, address, kind in struct.iter_unpack("<QQI20x", entries):
                    end = names.find(b"\0", name, name + MAX_NAME)
                    if end < 0:
                        raise ValueError("a name without an end")
                    text = names[name:end].decode("utf-8")
                    if kind == 2 or address == UNDEFINED:
                        raise ValueError(f"{brief(text)} is a soft link")
                    if text in members or text in ("", ".") or "/" in text:
                        raise ValueError(f"the name {brief(text)}")
                    members[text] = address
            elif start[:5] == b"TREE\0":
                children = self._bytes(node + 24, 16 * count + 8)
                nodes += [child for _, child in struct.iter_unpack("<QQ", children[:-8])]
            else:
                raise ValueError("a group without a tree")
        return members

    def _array(self, messages):
        if EXTERNAL in messages or FILTERS in messages:
            raise ValueError("an array that is compressed, or lies in another file")
        shape = _shape(messages[DATASPACE])
        dtype = _dtype(messages[DATATYPE])
        layout, nbytes = messages[LAYOUT], math.prod(shape) * dtype.itemsize
        if layout[:2] != b"\x03\x01":
            raise ValueError(f"an array of the layout {layout[:2]}, which Keras does not write")
        place, size = struct.unpack_from("<QQ", layout, 2)
        if nbytes == 0:
            return Array(shape, dtype, self._start)
        if size != nbytes or place + size > self._length:
            raise ValueError(f"{size} bytes from byte {place} on for an array of {nbytes}")
        return Array(shape, dtype, self._start + place)

    def _attribute(self, data):
        """(name, text) of an attribute, IV.A.2.m; None for one that holds no single text."""
        version, _, name_size, type_size, space_size = struct.unpack_from("<BBHHH", data)
        if version not in (1, 2, 3):
            raise ValueError(f"an attribute of version {version}")
        at, parts = 9 if version == 3 else 8, []
        for size in (name_size, type_size, space_size):
            parts.append(data[at : at + size])
            at += -(-size // 8) * 8 if version == 1 else size
        name, kind, space = parts
        if len(name) > MAX_NAME or kind[:1] not in (b"\x13", b"\x19"):
            return None
        if _shape(space):
            return None
        if kind[:1] == b"\x13":  # a text of fixed length
            text = data[at : at + struct.unpack_from("<I", kind, 4)[0]]
        else:
            text = self._heap_object(*struct.unpack_from("<4xQI", data, at))
        if len(text) > MAX_NAME:
            raise ValueError(f"an attribute of {len(text)} bytes")
        return name.rstrip(b"\0").decode("utf-8"), text.rstrip(b"\0").decode("utf-8")

    def _heap_object(self, address, index):
        """Object of a global heap, III.E."""
        if address not in self._heaps:
            head = self._bytes(address, 16)
            (size,) = struct.unpack_from("<Q", head, 8)
            if head[:5] != b"GCOL\x01" or size < 16:
                raise ValueError("a text that is not where its attribute says")
            data, at, objects = self._bytes(address + 16, size - 16), 0, {}
            while at + 16 <= len(data):
                number, _, length = struct.unpack_from("<HH4xQ", data, at)
                if number == 0:  # the rest is free
                    break
                objects[number] = data[at + 16 : at + 16 + length]
                at += 16 + -(-length // 8) * 8
            self._heaps[address] = objects
        return self._heaps[address][index]


def _shape(message):
    """Sides of a dataspace, IV.A.2.b."""
    version, rank = message[0], message[1]
    if version not in (1, 2) or rank > MAX_AXES or (version == 2 and message[3] == 2):
        raise ValueError(f"a shape {message[:4]}")
    return struct.unpack_from(f"<{rank}Q", message, 8 if version == 1 else 4)


def _dtype(message):
    """The dtype of a datatype of numbers, IV.A.2.d."""
    kind, order, sign, _, size = struct.unpack_from("<BBBBI", message)
    if kind == 0x11 and not order & 0x41:
        dtype = FLOATS.get((size, message[8:20]))
    elif kind == 0x10 and not order & 1 and size in (1, 2, 4, 8):
        whole = struct.unpack_from("<HH", message, 8) == (0, 8 * size)
        dtype = np.dtype(f"{'i' if order & 8 else 'u'}{size}") if whole else None
    elif kind == 0x15 and size == 2:  # two raw bytes, which Keras writes for one type alone
        dtype = np.dtype(ml_dtypes.bfloat16)
    else:
        dtype = None
    if dtype is None:
        raise ValueError(f"numbers of an unknown kind: {message[:20]}")
    return dtype
