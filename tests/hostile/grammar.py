"""Messages that a client might send and should not: grown from the protocol's grammar, and mutated as bytes."""

from __future__ import annotations

import random
import struct
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

INTEGERS = (
    0,
    1,
    2,
    3,
    7,
    255,
    256,
    65_535,
    65_536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**64 - 1,
    -1,
    -(2**63),
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 3.4e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "x",
    "y",
    "h",
    "leaky",
    "other",
    "own",
    "parked",
    "../leaky",
    "\0",
    "\n",
    "é" * 100,
    "a" * 300,
    "aux_y",
    "\U0001f916",
)
LENGTHS = (0, 0, 1, 1, 1, 2, 3, 8, 70)
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_DEEPEST = 4


class Grammar:
    """A source of messages; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def choice(self, options: Any) -> Any:
        """One of them."""
        return self._random.choice(options)

    def chance(self, of: float) -> bool:
        """True that often."""
        return self._random.random() < of

    def grow(self, kind: type[Message], depth: int = 0) -> Message:
        """A message whose fields are there by chance, with values at the edges of what they can be."""
        message = kind()
        for field in kind.DESCRIPTOR.fields:
            if not self.chance(0.6) or (field.message_type and depth >= _DEEPEST):
                continue
            if field.message_type and field.message_type.GetOptions().map_entry:
                continue
            if field.is_repeated:
                for _ in range(self.choice(LENGTHS)):
                    self._add(message, field, depth)
            elif field.message_type:
                getattr(message, field.name).CopyFrom(self._child(message, field, depth))
            else:
                setattr(message, field.name, self._value(field))
        return message

    def mutate(self, data: bytes) -> bytes:
        """The same bytes, but for some that are flipped, cut out, repeated, or put in."""
        mutated = bytearray(data)
        for _ in range(self.choice((1, 1, 2, 5, 20))):
            at = self._random.randrange(len(mutated) + 1)
            what = self.choice(("flip", "cut", "repeat", "insert", "number"))
            if what == "flip" and at < len(mutated):
                mutated[at] ^= 1 << self._random.randrange(8)
            elif what == "cut":
                del mutated[at : at + self._random.randrange(1, 9)]
            elif what == "repeat":
                mutated[at:at] = mutated[at : at + self._random.randrange(1, 65)]
            elif what == "insert":
                mutated[at:at] = self._random.randbytes(self._random.randrange(1, 9))
            elif what == "number":
                mutated[at : at + 8] = struct.pack("<Q", self.choice(INTEGERS) % 2**64)
        return bytes(mutated)

    def noise(self) -> bytes:
        """Bytes."""
        return self._random.randbytes(self._random.randrange(200))

    def _add(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        values = getattr(message, field.name)
        if field.message_type:
            values.add().CopyFrom(self._child(message, field, depth))
        else:
            values.append(self._value(field))

    def _child(self, message: Message, field: FieldDescriptor, depth: int) -> Message:
        kind = type(getattr(type(message)(), field.name)) if not field.is_repeated else None
        if kind is None:
            kind = type(getattr(type(message)(), field.name).add())
        return self.grow(kind, depth + 1)

    def _value(self, field: FieldDescriptor) -> Any:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._random.randbytes(self.choice((0, 1, 7, 8, 16, 64)))
        if field.type == FieldDescriptor.TYPE_STRING:
            return self.choice(TEXTS)
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return self.chance(0.5)
        if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return self.choice(FLOATS)
        low, high = _RANGES[field.cpp_type]
        small = self._random.randrange(4)
        return small if self.chance(0.6) else min(max(self.choice(INTEGERS), low), high)
