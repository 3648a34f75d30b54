"""Gesture phases from a Kinect: seven sessions of three storytellers (Madeo et al., 2014).

Protocol of the LTC paper (arXiv:2006.04439, table of time-series tasks): pieces of 32 rows, and the same half a piece
later, assigned at random. Training and test pieces overlap by half, so its scores are optimistic. The whole sessions
are available, too, to leave one out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

import numpy as np

from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.segments import dealt, piece
from statestream.models.data.set_files import Entry, File, read

PERIOD_NS = 33_333_333
"""About 30 rows per second; the processed files have no timestamps."""
ROWS = 32
SEED = 23489
CLASSES = {"D": "rest", "P": "preparation", "S": "stroke", "H": "hold", "R": "retraction"}
URL = (
    "https://raw.githubusercontent.com/Fmelle/Gesture-Phase-Segmentation/"
    "78dd0d6ce1050740faf3252d6af81a9714d1dbe1/data_files/processed"
)
# In the order of the paper's code: its permutation depends on it.
SHA256 = {
    "a3": "0ef1ae696b179eccfdfc85cdaf6abcf83ff95209060e94185d0b9dfbbed765d3",
    "b1": "fc530377ccf5da9fb8d82df04806d853afe988cc3dfead00608696a4a321875b",
    "b3": "011a99aa42d984a9ad5f31e191fd6b9f6c4e72ae75c63e804c5e8905b896d115",
    "c1": "4f4fe22b7839f696ee0fa8cd50aa6ae8082224db6ddb0767c5d405aa3d98ea42",
    "c3": "032dd63b2a5ca1a0b21bfa3feae06cc09bb9f9cf2d4254c621f87cfff3186c42",
    "a2": "3f921cab6fc8395b26ec772874583fe4eb211e15f856b6bfb45627cf4620fa48",
    "a1": "a9caf290dbf9c0ba112b273a3af2377c2ba061d25ba7eeab835e32552f66747d",
}
FILES = {name: File(f"{name}_va3.csv", sha256, f"{URL}/{name}_va3.csv") for name, sha256 in SHA256.items()}


def sessions() -> Dataset:
    """The seven whole sessions, each its own group."""
    recordings = tuple(_session(name, file) for name, file in FILES.items())
    return Dataset(recordings, _features(recordings[0]), tuple(CLASSES.values()))


def pieces() -> Dataset:
    """The paper's pieces and split."""
    whole = sessions()
    recordings = tuple(p for session in whole.recordings for p in _interleaved(session))
    return Dataset(recordings, whole.features, whole.labels, parts=dealt(len(recordings), SEED, 0.1, 0.15))


def _interleaved(session: Recording) -> Iterator[Recording]:
    count = len(session) // ROWS
    for k in range(count):
        yield piece(session, k * ROWS, ROWS)
        if k < count - 1:
            yield piece(session, k * ROWS + ROWS // 2, ROWS)


def _session(name: str, file: File) -> Recording:
    _, *rows = csv.reader(read("gesture_phase", file).decode().splitlines())
    target = np.array([list(CLASSES).index(row[-1]) for row in rows], np.int64)
    x_TF = np.array([row[:-1] for row in rows], np.float32)
    return Recording(name, np.arange(len(rows)) * PERIOD_NS, x_TF, target, name)


def _features(recording: Recording) -> tuple[str, ...]:
    return tuple(f"va{k + 1}" for k in range(recording.features.shape[1]))


ENTRY = Entry(
    name="gesture_phase",
    title="Gesture phases from a Kinect, seven sessions of three people",
    origin="UCI Machine Learning Repository, Gesture Phase Segmentation (Madeo, Wagner, Peres, 2014)",
    licence="CC BY 4.0",
    split="gesture_phase/pieces standard: the LTC paper's; whole sessions: leave one out (by group, 7 folds)",
    load=sessions,
    variants={"pieces": pieces},
    files=tuple(FILES.values()),
)
