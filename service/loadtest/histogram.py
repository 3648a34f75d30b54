"""HDR histogram of durations: three significant digits, 1 µs to an hour, mergeable."""

from __future__ import annotations

from collections.abc import Iterator

from hdrh.histogram import HdrHistogram

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_MOST_US = 3_600_000_000
_DIGITS = 3
_BITS = 11
_EXACT_US = 1 << _BITS
"""Values below are told apart; above, their first 11 bits count, which are three digits."""


class Histogram:
    """Histogram of durations in microseconds.

    Values beyond an hour count as an hour.
    """

    def __init__(self) -> None:
        self._whole = HdrHistogram(1, _MOST_US, _DIGITS)
        self._new: dict[int, int] = {}
        """Counts of values that are not in `_whole` yet, for one call of `HdrHistogram` costs several microseconds."""

    def record(self, microseconds: int) -> None:
        if microseconds >= _EXACT_US:
            # The lowest of the values that HdrHistogram takes for equal.
            microseconds &= -1 << (microseconds.bit_length() - _BITS)
        self._new[microseconds] = self._new.get(microseconds, 0) + 1

    @property
    def _hdr(self) -> HdrHistogram:
        for microseconds, count in self._new.items():
            self._whole.record_value(min(microseconds, _MOST_US), count)
        self._new.clear()
        return self._whole

    def add(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        if other.count:
            self._hdr.add(other._hdr)

    def reset(self) -> None:
        self._hdr.reset()

    @property
    def count(self) -> int:
        return int(self._hdr.get_total_count())

    @property
    def max_us(self) -> int:
        return int(self._hdr.get_max_value()) if self.count else 0

    @property
    def mean_us(self) -> float:
        return float(self._hdr.get_mean_value()) if self.count else 0.0

    def percentiles(self, wanted: tuple[float, ...] = PERCENTILES) -> dict[float, int]:
        """Percentiles in microseconds; 0: the histogram is empty."""
        if not self.count:
            return dict.fromkeys(wanted, 0)
        found = self._hdr.get_percentile_to_value_dict(wanted)
        return {p: min(int(found[p]), self.max_us) for p in wanted}

    def p(self, percentile: float) -> int:
        """One percentile in microseconds."""
        return self.percentiles((percentile,))[percentile]

    def bars(self) -> Iterator[tuple[int, int, int]]:
        """Yield lower bound, upper bound (microseconds) and count of each non-empty bucket."""
        if self.count:
            for item in self._hdr.get_recorded_iterator():
                low = int(self._hdr.get_lowest_equivalent_value(item.value_iterated_to))
                high = int(self._hdr.get_highest_equivalent_value(item.value_iterated_to)) + 1
                yield low, high, int(item.count_at_value_iterated_to)

    def summary_ms(self) -> dict[str, float]:
        """p50, p90, p95, p99, p99.9, max and mean in milliseconds."""
        found = {f"p{p:g}_ms": value / 1000 for p, value in self.percentiles().items()}
        return found | {"max_ms": self.max_us / 1000, "mean_ms": self.mean_us / 1000}

    def encode(self) -> str:
        """Encode in HdrHistogram's text form (V2, compressed, base64)."""
        return bytes(self._hdr.encode()).decode()

    @classmethod
    def decode(cls, text: str) -> Histogram:
        """Read the output of `encode`."""
        histogram = cls()
        histogram._hdr.decode_and_add(text.encode())
        return histogram
