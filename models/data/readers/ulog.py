"""Reads ULog, the log of PX4, as tables; the library pyulog is imported only here.

A column is a field of a topic, `vehicle_attitude.q[0]`, of its second instance `vehicle_imu[1].delta_angle[0]`. Every
message of the first topic is a row. From the other topics a row has the newest value by then; all have one clock.

Times are since the vehicle's start, or since the epoch if the vehicle knew it. A message with a time of 0, or before
the start of the log, has no time and is left out. While the logger dropped messages, there are no rows.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from statestream.models.data.readers.reader import TIME, Column, Facts, Reader, ends_with, errors_of, imported
from statestream.models.data.readers.topics import Topic, joined
from statestream.models.data.tables import DataError, Table
from statestream.models.spec import Array, Int64Array

SUFFIXES = (".ulg", ".ulog")
_NS = 1000
_MOST_TIMES = 100
"""How often its library may read the bytes of a log; after damage it searches for the next message."""
_LAST_US = (2**63 - 1) // _NS
_PATH = re.compile(r"(?P<topic>\w+)(?:\[(?P<instance>\d+)\])?\.(?P<field>\w.*)")

Instance = tuple[str, int]
"""A topic and the number of its instance."""


@dataclass(frozen=True)
class Messages:
    """Messages of an instance that have a time, in its order."""

    t_us: Int64Array
    types: dict[str, str]
    """Types of fields, by name."""
    fields: dict[str, Array]


class ULogFile(Reader):
    """A flight log."""

    facts = Facts(
        title="PX4 ULog",
        recognised="`.ulg`, `.ulog`",
        library="pyulog",
        extra="ulog",
        of_topics=True,
        columns="`TOPIC.FIELD`, of another instance `TOPIC[1].FIELD`, an element of an array `TOPIC.FIELD[2]`",
        types="numbers; booleans and characters are integers",
        time="`timestamp` of the first topic, microseconds; messages before the start of the log are left out",
        refused=(
            ("no fields named", "name the fields in data.features, as TOPIC.FIELD; the log has"),
            ("a topic without messages", "no messages of"),
            ("a field that a topic does not have", "no field"),
            ("a damaged header", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES)

    def columns(self, path: Path) -> tuple[Column, ...]:
        return tuple(
            Column(f"{_title(instance)}.{name}", kind, rate_hz=_rate_hz(messages.t_us))
            for instance, messages in _instances(path).items()
            for name, kind in messages.types.items()
        )

    def read(self, path: Path, names: Sequence[str]) -> Table:
        known = _instances(path)
        wanted: dict[Instance, dict[str, str]] = {}
        for name in (name for name in names if name != TIME):
            instance, field = _parsed(name)
            wanted.setdefault(instance, {})[name] = field
        listed = ", ".join(map(_title, known)) or "no topics"
        if not wanted:
            raise DataError(f"{path}: name the fields in data.features, as TOPIC.FIELD; the log has {listed}")
        for instance in wanted:
            if instance not in known:
                raise DataError(f"{path}: no messages of '{_title(instance)}' with a time; the log has {listed}")
        topics = [_topic(path, instance, known[instance], fields) for instance, fields in wanted.items()]
        return joined(path, topics, {TIME: (topics[0].place * _NS).astype("timedelta64[ns]")})


def _parsed(name: str) -> tuple[Instance, str]:
    found = _PATH.fullmatch(name)
    if found is None:
        raise DataError(f"'{name}': expected TOPIC.FIELD, such as vehicle_attitude.q[0] or vehicle_imu[1].dt")
    return (found["topic"], int(found["instance"] or 0)), found["field"]


def _title(instance: Instance) -> str:
    topic, number = instance
    return f"{topic}[{number}]" if number else topic


def _topic(path: Path, instance: Instance, messages: Messages, fields: dict[str, str]) -> Topic:
    for name, field in fields.items():
        if field not in messages.fields:
            raise DataError(f"{path}: '{name}': no field '{field}'; there are {', '.join(messages.fields)}")
    return Topic(_title(instance), messages.t_us, {name: messages.fields[field] for name, field in fields.items()})


def _instances(path: Path) -> dict[Instance, Messages]:
    """Messages of every instance that has one with a time."""
    log = _loaded(path)
    entries: dict[Instance, list[Any]] = {}
    for entry in log.data_list:
        entries.setdefault((entry.name, entry.multi_id), []).append(entry)
    return dict(_timed(path, entries, log.start_timestamp))


def _timed(path: Path, entries: dict[Instance, list[Any]], start_us: int) -> Iterator[tuple[Instance, Messages]]:
    for instance, parts in entries.items():
        whole = _whole(path, instance, parts)
        t_us = whole["timestamp"]
        late = np.flatnonzero(t_us > _LAST_US)
        if late.size:
            raise DataError(f"{path}: message {late[0]} of {_title(instance)}: no such time, {t_us[late[0]]} µs")
        # A topic that was subscribed again stands in several entries, in no order.
        order = np.argsort(t_us, kind="stable") if len(parts) > 1 else np.arange(len(t_us))
        kept = order[(t_us[order] != 0) & (t_us[order] >= start_us)]
        if kept.size:
            types = {field.field_name: field.type_str for field in parts[0].field_data}
            yield instance, Messages(t_us[kept].astype(np.int64), types, {k: v[kept] for k, v in whole.items()})


def _whole(path: Path, instance: Instance, parts: Sequence[Any]) -> dict[str, Array]:
    """Fields of all entries of an instance, one after another."""
    names = [list(part.data) for part in parts]
    if any(each != names[0] for each in names) or "timestamp" not in names[0]:
        raise DataError(f"{path}: the fields of '{_title(instance)}' change within the log, or have no timestamp")
    return {name: np.concatenate([part.data[name] for part in parts]) for name in names[0]}


def _loaded(path: Path) -> Any:
    """Parse a log. Its library's list of topics to read is not used: with it, drop-outs get other times."""
    pyulog = imported(path, "pyulog", "logs of PX4", ULogFile.facts)
    # The library prints what it makes of damage.
    with errors_of("pyulog", path), path.open("rb") as file, redirect_stdout(io.StringIO()):
        return pyulog.ULog(_Bounded(path, file))


class _Bounded:
    """A log for its library, which reads some damaged ones again and again without end."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.seek, self.tell, self.close = file.seek, file.tell, file.close
        self._path, self._file = path, file
        self._left = _MOST_TIMES * (path.stat().st_size + io.DEFAULT_BUFFER_SIZE)

    def read(self, count: int) -> bytes:
        """Read as a file does.

        Raises:
            DataError: the library has read the log many times over.
        """
        data = self._file.read(count)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._path}: cannot read it: its damage leads the library back without end")
        return data


def _rate_hz(t_us: Int64Array) -> float | None:
    span_us = int(t_us[-1] - t_us[0])
    return (len(t_us) - 1) * 1e6 / span_us if span_us > 0 else None


READER: Reader = ULogFile()
