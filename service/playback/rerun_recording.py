"""Recording for Rerun: inputs, outputs, states and time constants of played recordings on one timeline.

NAME/input/x          values that the model took, or its pictures
NAME/output/y         what it said; a row without an output has none
NAME/state/h          states after each row
NAME/time_constants   of its neurons, seconds, if the bundle has them (`export --aux-tau`)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models import jpeg
from statestream.models.files import replacing
from statestream.models.spec import Array, Int64Array, Manifest
from statestream.service.extras import need
from statestream.service.playback.play import Played

TIMELINE = "time"
_EPOCH_NS = 631_152_000_000_000_000
"""1990: earlier times are since some start, and shown as durations."""
_TAU = "aux_tau"

Series = tuple[tuple[str, ...], list[str], Array]
"""Path below the recording's, names of the elements, and values `[T, size]`."""


def write_rerun(path: Path, played: Sequence[Played], manifest: Manifest) -> None:
    """Write a `.rrd` file.

    Raises:
        FailedPrecondition: rerun-sdk is not installed.
    """
    rerun = need("rerun", "rerun")
    is_epoch = min(int(one.recording.t_ns[0]) for one in played) >= _EPOCH_NS
    with replacing(path) as temporary:
        stream = rerun.RecordingStream("statestream", recording_id=None)
        stream.save(temporary)
        for one in played:
            _send(rerun, stream, one, manifest, is_epoch=is_epoch)
        stream.flush()
        stream.disconnect()


def _send(rerun: Any, stream: Any, played: Played, manifest: Manifest, *, is_epoch: bool) -> None:
    recording = played.recording
    spec = manifest.inputs[0]
    if spec.frame is not None:
        entity = rerun.new_entity_path([recording.id, "input", spec.name])
        pictures = [_encoded(picture) for picture in recording.features]
        columns = rerun.EncodedImage.columns(blob=pictures, media_type=["image/jpeg"] * len(pictures))
        rerun.send_columns(entity, [_times(rerun, recording.t_ns, is_epoch=is_epoch)], columns, recording=stream)
    for below, names, values in _series(played, manifest):
        rows = np.isfinite(values).any(axis=1)
        if not rows.any():
            continue
        entity = rerun.new_entity_path([recording.id, *below])
        rerun.log(entity, rerun.SeriesLines(names=names), static=True, recording=stream)
        columns = rerun.Scalars.columns(scalars=values[rows].astype(np.float64))
        times = _times(rerun, recording.t_ns[rows], is_epoch=is_epoch)
        rerun.send_columns(entity, [times], columns, recording=stream)


def _series(played: Played, manifest: Manifest) -> Iterator[Series]:
    spec, output = manifest.inputs[0], manifest.outputs[0]
    if spec.frame is None and played.recording.features.shape[1:]:
        yield ("input", spec.name), _names(spec.labels, spec.size), played.recording.features
    yield ("output", output.name), _names(output.labels, output.size), played.output
    labels = {each.name: each.labels for each in manifest.outputs}
    for name, values in played.others.items():
        below = ("time_constants",) if name == _TAU else ("output", name)
        yield below, _names(labels.get(name, ()), values.shape[1]), values
    for name, values in played.states.items():
        yield ("state", name), _names((), values.shape[1]), values


def _names(labels: Sequence[str], size: int) -> list[str]:
    return list(labels) if len(labels) == size else [str(k) for k in range(size)]


def _times(rerun: Any, t_ns: Int64Array, *, is_epoch: bool) -> Any:
    if is_epoch:
        return rerun.TimeColumn(TIMELINE, timestamp=t_ns.astype("datetime64[ns]"))
    return rerun.TimeColumn(TIMELINE, duration=t_ns.astype("timedelta64[ns]"))


def _encoded(picture: Array | bytes) -> bytes:
    return picture if isinstance(picture, bytes) else jpeg.encode(np.asarray(picture))
