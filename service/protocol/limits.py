"""Limits shared by server and client."""

from __future__ import annotations

MAX_CHANNEL = 65_535
"""Highest channel of a stream."""
MAX_KEEP_LAST = 65_536
"""Most rows that a `keep_last` policy lets wait."""
SEQ_LIMIT = 2**62
"""Upper bound of seqs, exclusive."""
ROW_OVERHEAD_BYTES = 48
"""Approximate bytes of a waiting row beside its data; both sides count them against `Opened.credit_bytes`."""
