"""Harms files as disks, networks and loggers that lost power do: flips, cuts, splices, growth."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Mutation = Callable[[random.Random, bytearray], bytearray]

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
_WORDS = (
    b"",
    b"nan",
    b"inf",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"\xff\xfe",
    b'"',
    b"\0",
    b"null",
    b"[[",
    b"\n",
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def mutated(random: random.Random, data: bytes) -> bytes:
    """Change a file's content in one way, seldom in several."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        found = random.choice(MUTATIONS)(random, found)
    return bytes(found)


def _place(random: random.Random, data: bytearray) -> int:
    """A position, at times near the start or the end, where headers and indexes are."""
    most, near = len(data), random.randrange(64)
    return random.choice((random.randrange(most + 1), random.randrange(most + 1), min(most, near), max(0, most - near)))


def flip(random: random.Random, data: bytearray) -> bytearray:
    for _ in range(random.choice((1, 1, 3, 16)) if data else 0):
        data[min(_place(random, data), len(data) - 1)] ^= 1 << random.randrange(8)
    return data


def edge(random: random.Random, data: bytearray) -> bytearray:
    """Write a number at the edge of what its bytes can be."""
    size, at = random.choice((1, 2, 4, 8)), _place(random, data)
    number = random.choice(_EDGES) & (256**size - 1)
    data[at : at + size] = number.to_bytes(size, random.choice(("little", "big")))
    return data


def cut(random: random.Random, data: bytearray) -> bytearray:
    return data[: random.choice((0, _place(random, data), random.randrange(len(data) + 1)))]


def remove(random: random.Random, data: bytearray) -> bytearray:
    at = _place(random, data)
    del data[at : at + random.choice((1, 4, 64, 4096))]
    return data


def splice(random: random.Random, data: bytearray) -> bytearray:
    """Copy a piece to another place, over what was there or between."""
    piece = data[(at := _place(random, data)) : at + random.choice((1, 8, 64, 512))]
    to = _place(random, data)
    data[to : to + (len(piece) if random.random() < 0.5 else 0)] = piece
    return data


def grow(random: random.Random, data: bytearray) -> bytearray:
    at, count = _place(random, data), random.choice((1, 8, 512, 100_000))
    data[at:at] = random.choice((bytes(count), b"\xff" * count, random.randbytes(count), data[:count]))
    return data


def word(random: random.Random, data: bytearray) -> bytearray:
    """Replace a number in text."""
    found = list(_NUMBER.finditer(data[:100_000]))
    if not found:
        return edge(random, data)
    start, end = random.choice(found).span()
    data[start:end] = random.choice(_WORDS)
    return data


MUTATIONS: tuple[Mutation, ...] = (flip, flip, edge, cut, remove, splice, grow, word)
