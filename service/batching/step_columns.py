"""Step columns: the rows of one message as plain values, before they are queued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from statestream.service.errors import InvalidArgument
from statestream.service.protocol.limits import SEQ_LIMIT
from statestream.service.protocol.verdict import RowFlag

_KNOWN_FLAGS = int(RowFlag.SKIP | RowFlag.REPLAY | RowFlag.NEW_CLOCK)
_SKIP = int(RowFlag.SKIP)


class StepColumns(NamedTuple):
    """Rows of one message, as columns; rows of one session are in order."""

    seq: Sequence[int]
    t_ns: Sequence[int] = ()
    """Timestamps; empty where no row has one."""
    flags: Sequence[int] = ()
    """Bits of RowFlag; empty where no row has any."""
    columns: Sequence[tuple[str, bytes]] = ()
    """Name and data of each input, over the rows that are not SKIP."""
    budget_us: Sequence[int] = ()
    """Microseconds left to each row's deadline; empty where no row has one."""
    frames: Mapping[str, Sequence[bytes]] = {}
    """Images of each encoded input, over the rows that are not SKIP."""

    def check(self, rows: int) -> None:
        """Check the columns of `rows` rows; raises InvalidArgument for unequal lengths or invalid values."""
        columns = {"seq": self.seq, "timestamp_ns": self.t_ns, "flags": self.flags, "budget_us": self.budget_us}
        for name, column in columns.items():
            if len(column) != rows and (column or name == "seq"):
                raise InvalidArgument(f"{len(column)} values for {rows} rows of steps.channel", field=f"steps.{name}")
        if self.flags and max(self.flags) > _KNOWN_FLAGS:
            raise InvalidArgument(
                f"{max(self.flags)} has unknown bits; the known ones are {_KNOWN_FLAGS}", field="steps.flags"
            )
        if rows and not 0 < min(self.seq) <= max(self.seq) < SEQ_LIMIT:
            raise InvalidArgument(f"{min(self.seq)} … {max(self.seq)}; seqs count from 1", field="steps.seq")

    def pick(self, rows: Sequence[int]) -> StepColumns:
        """Select rows. Data that does not divide evenly among the rows stays as it is."""
        has_data = [not flag & _SKIP for flag in self.flags] or [True] * len(self.seq)
        place = [0, *accumulate(has_data)]
        places = [place[row] for row in rows if has_data[row]]
        return StepColumns(
            seq=[self.seq[row] for row in rows],
            t_ns=[self.t_ns[row] for row in rows] if self.t_ns else (),
            flags=[self.flags[row] for row in rows] if self.flags else (),
            columns=[(name, _pick_data(data, places, place[-1])) for name, data in self.columns],
            budget_us=[self.budget_us[row] for row in rows] if self.budget_us else (),
            frames={
                name: [images[each] for each in places] if len(images) == place[-1] else images
                for name, images in self.frames.items()
            },
        )


def _pick_data(data: bytes, places: Sequence[int], rows: int) -> bytes:
    """The data of the rows at `places`, of `rows` rows that have data."""
    size, rest = divmod(len(data), rows) if rows else (0, 1)
    return data if rest else b"".join(data[place * size : (place + 1) * size] for place in places)
