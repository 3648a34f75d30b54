"""Rows of a log of topics: every message of the first topic, with the newest value of each other one.

Rows start once every topic has had a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statestream.models.data.readers.reader import TIME
from statestream.models.data.tables import DataError, Table
from statestream.models.spec import Array, Int64Array

STAMP, LOGGED = "header.stamp", "log_time"
"""Columns of the times that messages state, and of those at which they were logged."""


@dataclass(frozen=True)
class Topic:
    """Messages of one topic, in order."""

    name: str
    place: Int64Array
    """Position of each message among those of all topics; of equal ones, the later topic's comes first."""
    columns: dict[str, Array]


def times_of(
    path: Path, name: str, logged_ns: Sequence[int], stamped_ns: Sequence[int], *, stamps_needed: bool
) -> dict[str, Array]:
    """Columns of a topic's times, as datetimes; `timestamp_ns` are stamps if all messages have one, else log times.

    Args:
        stamped_ns: times that the messages state; 0: a message states none.

    Raises:
        DataError: stamps are needed, and a message has none.
    """
    missing = next((k for k, stamp in enumerate(stamped_ns) if not stamp), None)
    if stamps_needed and missing is not None:
        raise DataError(
            f"{path}: message {missing} of {name} has no {STAMP}; data.time = '{LOGGED}' takes the times of the log"
        )
    logged, stamped = (np.array(times, "datetime64[ns]") for times in (logged_ns, stamped_ns))
    return {TIME: stamped if missing is None else logged, STAMP: stamped, LOGGED: logged}


def check_topics(path: Path, counts: Mapping[str, int], known: Mapping[str, str]) -> None:
    """Raise DataError if no topic was named or one has no messages; the text lists the topics.

    Args:
        counts: messages of each topic that was named.
        known: topics of the log and their types.
    """
    listed = ", ".join(f"{name} ({kind})" for name, kind in known.items()) or "no topics"
    if not counts:
        raise DataError(f"{path}: name the fields in data.features, as TOPIC.FIELD; the log has {listed}")
    for name, count in counts.items():
        if not count:
            raise DataError(f"{path}: no messages of '{name}'; the log has {listed}")


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
    for topic in topics:
        held = np.searchsorted(topic.place, clock.place[first:], side="right") - 1
        columns |= {name: column[held] for name, column in topic.columns.items()}
    return Table(path, columns, row_word="message", first_row=first)
