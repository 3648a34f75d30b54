"""The import path of version 0.1; use `statestream.service.playback.score`."""

from statestream.service.playback.score import Score, score, write_predictions

__all__ = ["Score", "score", "write_predictions"]
