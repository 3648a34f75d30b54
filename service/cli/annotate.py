"""The import path of version 0.1; use `statestream.service.playback.video_overlay`."""

from statestream.service.playback.video_overlay import (
    annotated,
    check_drawable,
    drawn_row,
    film_writer,
    scale_of,
    write_video,
)

__all__ = ["annotated", "check_drawable", "drawn_row", "film_writer", "scale_of", "write_video"]
