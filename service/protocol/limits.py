"""Limits that server and client share."""

from __future__ import annotations

MAX_CHANNEL = 65_535
"""The highest channel of a stream."""
MAX_KEEP_LAST = 65_536
"""The most rows that a `keep_last` policy may let wait."""
SEQ_LIMIT = 2**62
"""Every seq is below it."""
ROW_OVERHEAD_BYTES = 48
"""Bytes that a waiting row takes beside its data, about; both sides count them against `Opened.credit_bytes`."""
