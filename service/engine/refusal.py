"""Refusals of a bundle: whatever a library raises, as one sentence that names the file and the cause."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from statestream.models.bundle import BundleError
from statestream.service.errors import StatestreamError

_LONGEST = 400
_PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |Load model from .{1,4096}? failed:")
_SOURCE = re.compile(r"/?[\w./-]+\.(?:cc|cpp|cu|h|hpp):\d+ ")
_AFTER_SIGNATURE = re.compile(r"(?: const| noexcept| \[with [^\]]*\])* ")


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn any exception into a BundleError that begins with `what`; refusals that are sentences already pass.

    Raises:
        BundleError: whatever went wrong within.
    """
    try:
        yield
    except (BundleError, StatestreamError):
        raise
    except Exception as error:
        raise BundleError(f"{what}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What an exception says, on one line and without the C++ signatures that onnxruntime puts before it."""
    text = _PREFIX.sub("", str(error))
    while (source := _SOURCE.search(text)) is not None:
        text = text[: source.start()] + text[_end_of_signature(text, source.end()) :]
    text = " ".join(text.split())
    if not text or isinstance(error, LookupError):
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _end_of_signature(text: str, start: int) -> int:
    """Where the C++ signature that begins at `start` ends; `start` where there is none."""
    opening = text.find("(", start)
    if opening < 0:
        return start
    end = opening
    while end < len(text) and text[end] == "(":
        end = _closing(text, end) + 1
    after = _AFTER_SIGNATURE.match(text, end)
    return after.end() if after else start


def _closing(text: str, opening: int) -> int:
    """The index of the parenthesis that closes the one at `opening`; the end of the text where none does."""
    depth = 0
    for index in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if not depth:
            return index
    return len(text) - 1
