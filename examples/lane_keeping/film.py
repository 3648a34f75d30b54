"""What there is to see of a drive: a film with both steerings drawn in, one frame of it, and the way on the track."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from examples.lane_keeping.car import FRAME, TRACK_WIDTH, Car
from examples.lane_keeping.client import Drive
from statestream.models.data.recordings import Recording
from statestream.models.files import replacing
from statestream.service.client import Verdict
from statestream.service.playback.play import Played
from statestream.service.playback.video_overlay import annotated, write_video

_ENLARGED = 4
_SHOWN_S = 20.0


def film(path: Path, drive: Drive) -> None:
    """An mp4 of a drive; orange is what the network steered, green what the expert would have."""
    write_video(path, [_played(drive)], FRAME)


def still(path: Path, drive: Drive) -> None:
    """The frame of the film in which the expert steers most."""
    row = int(np.abs([frame.expert for frame in drive.frames]).argmax())
    picture = next(islice(annotated(_played(drive), FRAME, _ENLARGED), row, None))
    with replacing(path) as temporary:
        imsave(temporary, picture)


def plot(path: Path, seed: int, drives: Mapping[str, Drive]) -> None:
    """Ways about one track, by what they are called, and the steering of the first of them."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    FigureCanvasAgg(figure)
    track, steering = figure.subplots(1, 2, width_ratios=(1, 1.6))
    for side, edge in _edges(seed):
        track.plot(*edge.T, color="grey", linewidth=0.8, label=side)
    for name, drive in drives.items():
        track.plot([frame.x for frame in drive.frames], [frame.y for frame in drive.frames], label=name)
    track.set_aspect("equal")
    track.set_xlabel("metres")
    track.legend(loc="best")
    name, first = next(iter(drives.items()))
    shown = [frame for frame in first.frames if frame.t_ns < _SHOWN_S * 1e9]
    t_s = [frame.t_ns * 1e-9 for frame in shown]
    steering.plot(t_s, [frame.expert for frame in shown], color="tab:green", label="expert")
    steering.plot(t_s, [frame.steering for frame in shown], color="tab:orange", label=f"network, {name}")
    steering.set_xlabel("seconds")
    steering.set_ylabel("steering, to the right")
    steering.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _played(drive: Drive) -> Played:
    """The drive as a recording that was played, the expert's steering being the true one."""
    frames = drive.frames
    pictures = np.empty(len(frames), object)
    pictures[:] = [frame.jpeg for frame in frames]
    t_ns = np.array([frame.t_ns for frame in frames])
    expert = np.array([[frame.expert] for frame in frames], np.float32)
    return Played(
        Recording("drive", t_ns, pictures, expert),
        output=np.array([[frame.steering] for frame in frames], np.float32),
        verdict=np.full(len(frames), Verdict.APPLIED),
        dt_s=np.diff(t_ns * 1e-9, prepend=0.0).astype(np.float32),
    )


def _edges(seed: int) -> list[tuple[str, np.ndarray[tuple[int, int], np.dtype[np.float64]]]]:
    """The road's, closed; only the first has a name for the legend."""
    centre = Car(seed).centre
    along = np.roll(centre, -1, axis=0) - np.roll(centre, 1, axis=0)
    across = along[:, ::-1] * [-1, 1] / np.hypot(*along.T)[:, None] * TRACK_WIDTH
    return [
        (name, np.concatenate([edge, edge[:1]])) for name, edge in (("road", centre + across), ("", centre - across))
    ]
