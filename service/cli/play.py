"""The import path of version 0.1; use `statestream.service.playback.play`."""

from statestream.service.playback.play import PIECE, OnProgress, Played, play, rate_of

__all__ = ["PIECE", "OnProgress", "Played", "play", "rate_of"]
