"""Cache of downloaded and decoded files, `~/.cache/statestream` (`XDG_CACHE_HOME` moves it)."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """Path of the cache folder, which may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "statestream"
