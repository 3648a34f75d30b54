"""Rows of a log of topics: every message of the first topic, with the newest value of each other one.

Rows start once every topic has had a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statestream.models.data.tables import DataError, Table
from statestream.models.spec import Array, Int64Array


@dataclass(frozen=True)
class Topic:
    """Messages of one topic, in order."""

    name: str
    place: Int64Array
    """Position of each message among those of all topics; of equal ones, the later topic's comes first."""
    columns: dict[str, Array]


def joined(path: Path, topics: Sequence[Topic], times: dict[str, Array]) -> Table:
    """Build the table.

    Args:
        times: columns of the first topic's times.

    Raises:
        DataError: no message of the first topic follows a message of every other one.
    """
    clock = topics[0]
    first = int(np.searchsorted(clock.place, max(topic.place[0] for topic in topics)))
    if first == len(clock.place):
        raise DataError(f"{path}: no message of {clock.name} follows a message of every other topic")
    columns = {name: column[first:] for name, column in times.items()}
    columns |= {name: column[first:] for name, column in clock.columns.items()}
    for topic in topics[1:]:
        held = np.searchsorted(topic.place, clock.place[first:], side="right") - 1
        columns |= {name: column[held] for name, column in topic.columns.items()}
    return Table(path, columns, row_word="message", first_row=first)
