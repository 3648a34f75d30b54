"""Replies whose rows were all APPLIED, read without protobuf's objects where the native transport was built."""

from __future__ import annotations

try:
    from statestream.service.transports.native import _core

    applied_rows = _core.applied_rows
except ImportError:

    def applied_rows(message: bytes, /) -> tuple[tuple[int, ...], int, int, int] | None:
        """Seqs of a response's rows, `queue_us`, `compute_us` and `batch`; None: it needs protobuf, as all do here."""
        return None
