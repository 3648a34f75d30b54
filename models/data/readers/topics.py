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
    place: Array
    """Position of each message among those of all topics; of equal ones, the later topic's comes first."""
    columns: dict[str, Array]


def times_of(
    path: Path,
    name: str,
    logged_ns: Sequence[int] | Int64Array,
    stamped_ns: Sequence[int] | Int64Array,
    names: Sequence[str],
) -> dict[str, Array]:
    """Columns of a topic's times, as datetimes; `timestamp_ns` are stamps if all messages have one, else log times.

    The times of the log are a column of their own if they are asked for, or if stamps run backwards.

    Args:
        stamped_ns: times that the messages state; 0: a message states none.
        names: columns that are asked for; with `header.stamp` a message without a stamp is an error.

    Raises:
        DataError: stamps are needed, and a message has none.
    """
    logged, stamped = (np.asarray(times, np.int64) for times in (logged_ns, stamped_ns))
    missing = np.flatnonzero(stamped == 0)
    if STAMP in names and missing.size:
        raise DataError(
            f"{path}: message {missing[0]} of {name} has no {STAMP}; data.time = '{LOGGED}' takes the times of the log"
        )
    stamps, times = stamped.view("datetime64[ns]"), logged.view("datetime64[ns]")
    found = {TIME: times if missing.size else stamps, STAMP: stamps}
    return found | {LOGGED: times} if LOGGED in names or (stamped[1:] < stamped[:-1]).any() else found


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
    columns |= {name: column[first:] for name, column in clock.columns.items()}
    for topic in topics[1:]:
        held = np.searchsorted(topic.place, clock.place[first:], side="right") - 1
        columns |= {name: column[held] for name, column in topic.columns.items()}
    return Table(path, columns, row_word="message", first_row=first)
