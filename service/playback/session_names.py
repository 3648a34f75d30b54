"""Session names of played recordings: their files' names, for people who look at the server."""

from __future__ import annotations

import uuid
from pathlib import Path

_MOST_BYTES = 200
"""Of a name, so that an id with its tag stays within the server's limit."""


def session_name(source: str, recording: str = "") -> str:
    """Id for the session of a recording of `source`, a file or folder.

    A tag at its end makes it unlike the id of any other run.
    """
    path = Path(source)
    own = path.name or str(path)
    name = own if recording in ("", path.stem) else recording if path.is_dir() else f"{own} {recording}"
    printable = "".join(c if c.isprintable() else "_" for c in name)
    return f"{printable.encode()[:_MOST_BYTES].decode(errors='ignore')} {uuid.uuid4().hex[:6]}"
