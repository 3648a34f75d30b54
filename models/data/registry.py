"""Registry of public data sets by name.

A new one is a file in `sets/` and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable

from statestream.models.data.recordings import Dataset
from statestream.models.data.set_files import Entry
from statestream.models.data.sets import (
    borealtc,
    broad_imu,
    gesture_phase,
    metro_traffic,
    occupancy,
    ozone,
    px4_flight_log,
    rover,
    seq_mnist,
    tubs,
    walker2d,
    watch,
    xor,
)
from statestream.models.data.tables import DataError

REGISTRY: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        walker2d.ENTRY,
        gesture_phase.ENTRY,
        occupancy.ENTRY,
        seq_mnist.ENTRY,
        metro_traffic.ENTRY,
        ozone.ENTRY,
        xor.ENTRY,
        borealtc.ENTRY,
        tubs.DONKEYCAR,
        tubs.RC_TRACK,
        watch.ENTRY,
        px4_flight_log.ENTRY,
        broad_imu.ENTRY,
        rover.ENTRY,
    )
}


def entry_of(name: str) -> Entry:
    """Return the entry of a data set.

    Raises:
        DataError: there is no such data set.
    """
    if name not in REGISTRY:
        raise DataError(f"data.dataset: '{name}' is unknown; there are {', '.join(REGISTRY)}")
    return REGISTRY[name]


def loader(name: str) -> Callable[[], Dataset]:
    """Return the function that loads the data set `NAME` or `NAME/VARIANT`.

    Raises:
        DataError: there is no such data set, or it has no such variant.
    """
    base, _, variant = name.partition("/")
    entry = entry_of(base)
    if not variant:
        return entry.load
    if variant not in entry.variants:
        known = ", ".join(f"{base}/{each}" for each in entry.variants) or "none"
        raise DataError(f"data.dataset: '{name}' is no variant of {base}; there are {known}")
    return entry.variants[variant]
