"""A file over HTTP: goes on where a cut connection left it, is checked, and appears whole or not at all."""

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
"""Bytes there are by now, and, where the server says so, bytes there will be."""


def download(url: str, path: Path, check: Callable[[Path], None], progress: Progress | None = None) -> None:
    """Fetch `url` into `path`, by way of `path.part`, which a later call goes on with.

    Args:
        check: raises `DataError` if a finished file is not the right one; that file is removed.

    Raises:
        DataError: the server cannot be reached, refuses, or breaks off `TRIES` times in a row without a new byte;
            or what `check` raises.
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
                raise DataError(f"{url}: failed {TRIES} times in a row, the last time by: {error}") from error
    try:
        check(part)
    except DataError:
        part.unlink()
        raise
    part.replace(path)


def _receive(url: str, part: Path, progress: Progress | None) -> None:
    """Append to `part` what is missing; raises where the connection ends before the file."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # It is all here; the check will tell.
        raise
    with answer:
        if answer.status != http.client.PARTIAL_CONTENT:
            have = 0  # The server knows no ranges, and begins anew.
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
