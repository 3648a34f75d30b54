"""Video overlay: draws predictions and targets into frames, as bars from the middle.

orange   predicted      green   true      no orange bar   the row has no output
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.pictures import decoded
from statestream.models.data.recordings import median_period_s
from statestream.models.files import replacing
from statestream.models.spec import Array, OutputSpec
from statestream.service.errors import InvalidArgument
from statestream.service.extras import need
from statestream.service.playback.play import Played

_LEAST_WIDTH = 480
_PREDICTED, _TRUE = (255, 140, 0), (60, 200, 80)
_TICK = Fraction(1, 90_000)
"""Unit of frame times in the video, seconds."""
_BAR, _MARK = 8, 3
"""Height of a bar and width of the mark in the middle, pixels."""


def check_drawable(path: Path, spec: OutputSpec) -> None:
    """Check that a model's output can be drawn, before anything is played.

    Raises:
        InvalidArgument: the output is a class, or the file's suffix is not that of a video.
        FailedPrecondition: PyAV is not installed.
    """
    if spec.task == "classification":
        raise InvalidArgument(f"output '{spec.name}' is a class; bars show numbers", field="--video")
    if path.suffix.lower() not in (".mp4", ".mkv", ".mov"):
        raise InvalidArgument(f"'{path}', expected .mp4, .mkv or .mov", field="--video")
    need("av", "video")


def write_video(path: Path, played: Sequence[Played], size: tuple[int, int]) -> None:
    """Write all recordings to one video, in real time.

    `size`: height and width of the frames.
    """
    period_s = median_period_s([one.recording for one in played])
    with film_writer(path, size, 1 / period_s) as add:
        pictures = (picture for one in played for picture in annotated(one, size, scale_of(size)))
        for number, picture in enumerate(pictures):
            add(picture, number * period_s)


def scale_of(size: tuple[int, int]) -> int:
    """Factor by which frames of `size` (height, width) are enlarged, for visibility."""
    return max(1, -(-_LEAST_WIDTH // size[1]))


@contextmanager
def film_writer(path: Path, size: tuple[int, int], rate_hz: float) -> Iterator[Callable[[Array, float], None]]:
    """Yield a callback that writes a frame, enlarged by `scale_of(size)`, at a time in seconds.

    A frame that is not later than the one before is left out. The file is written whole, or not at all after an error.
    """
    import av

    with replacing(path) as temporary, av.open(str(temporary), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(rate_hz).limit_denominator(1000))
        stream.height, stream.width = (side * scale_of(size) // 2 * 2 for side in size)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _TICK
        last = -1

        def add(picture: Array, at_s: float) -> None:
            nonlocal last
            if (tick := round(at_s / _TICK)) <= last:
                return
            whole = np.ascontiguousarray(picture[: stream.height, : stream.width])
            frame = av.VideoFrame.from_ndarray(whole, format="rgb24")
            frame.pts, frame.time_base, last = tick, _TICK, tick
            container.mux(stream.encode(frame))

        yield add
        container.mux(stream.encode())


def annotated(played: Played, size: tuple[int, int], scale: int) -> Iterator[Array]:
    """Yield each frame of a recording, enlarged by `scale`, with its bars."""
    target = played.recording.target
    true = None if target is None else np.asarray(target, np.float64).reshape(len(played.output), -1)
    known = [values[np.isfinite(values)] for values in (played.output, true) if values is not None]
    largest = max(1e-9, float(np.abs(np.concatenate(known)).max(initial=0.0)))
    for row, picture in enumerate(played.recording.features):
        pixels = decoded(picture, *size) if isinstance(picture, bytes) else picture
        yield drawn_row(pixels, scale, played.output[row], None if true is None else true[row], largest)


def drawn_row(pixels: Array, scale: int, predicted: Array, true: Array | None, largest: float) -> Array:
    """Enlarge a frame by `scale` and draw `predicted` and `true`, `[K]`.

    `largest` fills half the width.
    """
    image = np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1)
    top = len(image)
    for k in reversed(range(len(predicted))):
        if true is not None:
            top = _draw(image, top, float(true[k]) / largest, _TRUE)
        top = _draw(image, top, float(predicted[k]) / largest, _PREDICTED)
    return image


def _draw(image: Array, bottom: int, part: float, colour: tuple[int, int, int]) -> int:
    """Draw a bar from the middle, to the left if negative.

    Returns the row of its top.
    """
    top, middle = bottom - _BAR, image.shape[1] // 2
    image[top:bottom] //= 3
    image[top:bottom, middle - _MARK // 2 : middle + _MARK // 2 + 1] = 255
    if np.isfinite(part):
        end = middle + round(part * (middle - 1))
        image[top + 1 : bottom - 1, min(middle, end) : max(middle, end) + 1] = colour
    return top
