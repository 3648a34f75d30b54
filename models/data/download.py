"""HTTP download of a file: resumable, verified, and written whole or not at all."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from statestream.models.data.tables import DataError

BLOCK = 1 << 16
TRIES = 4
TIMEOUT_S = 30.0

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes received so far and the total bytes; None: the server does not state it."""


def download(url: str, path: Path, check: Callable[[Path], None], progress: Progress | None = None) -> None:
    """Download `url` to `path`, by way of `path.part`, which a later call continues.

    Args:
        check: raises `DataError` if the complete file is not the expected one; the file is then removed.

    Raises:
        DataError: the server cannot be reached, refuses, or breaks off `TRIES` times in a row without a new byte;
            or `check` fails.
    """
    part = path.with_name(f"{path.name}.part")
    failures = 0
    while True:
        before = _size(part)
        try:
            _receive(url, part, progress)
            break
        except urllib.error.HTTPError as error:
            raise DataError(f"{url}: {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures >= TRIES:
                raise DataError(f"{url}: failed {TRIES} times in a row; the last error: {error}") from error
    try:
        check(part)
    except DataError:
        part.unlink()
        raise
    part.replace(path)


def _receive(url: str, part: Path, progress: Progress | None) -> None:
    """Append the missing bytes to `part`.

    Raises if the connection ends before the file.
    """
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # The file is complete; `check` verifies it.
        raise
    with answer:
        if answer.status != http.client.PARTIAL_CONTENT:
            have = 0  # The server does not support ranges and sends the whole file.
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                have += len(block)
                if progress is not None:
                    progress(have, total)
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
