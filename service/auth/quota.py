"""Quotas on streams and steps a second, per caller and in total.

Sessions are limited in `control.session_registry`, sizes of messages where they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from statestream.service.auth.identity import Identity
from statestream.service.config import ServerConfig
from statestream.service.errors import ResourceExhausted

_LONGEST_WAIT_S = 10.0


class TokenBucket:
    """Token bucket: `rate` steps a second, with bursts of one second. A rate of 0 must not be used."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self.rate = rate
        self._clock = clock
        self._left = rate
        self._then_s = clock()

    def wait_s(self, steps: int) -> float:
        """Seconds until `steps` more may pass, after those taken; 0 or less: now."""
        now_s = self._clock()
        self._left = min(self.rate, self._left + (now_s - self._then_s) * self.rate)
        self._then_s = now_s
        return (steps - self._left) / self.rate

    def take(self, steps: int) -> None:
        """Take steps; the bucket may go below zero."""
        self._left -= steps


class Quota:
    """Streams and steps of one caller."""

    def __init__(self, total: Quotas, bucket: TokenBucket, max_streams: int, name: str) -> None:
        self.streams = 0
        self._total = total
        self._buckets = tuple(each for each in (bucket, total.bucket) if each.rate)
        self._max_streams = max_streams
        self._name = name

    @property
    def limits_steps(self) -> bool:
        """Whether steps a second are limited."""
        return bool(self._buckets)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count a stream for the length of the `with` block. Raises ResourceExhausted at the limit."""
        if self.streams >= self._max_streams:
            raise ResourceExhausted(
                f"'{self._name}' has {self.streams} streams, its limit (max_streams_per_client)", retry_after_s=5.0
            )
        self._total.begin_stream()
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1
            self._total.streams -= 1

    def wait_s(self, steps: int) -> float:
        """Count steps and return how long they must wait, in seconds.

        Raises:
            ResourceExhausted: longer than ten seconds. The steps are not counted.
        """
        if not self._buckets:
            return 0.0
        wait_s = max(bucket.wait_s(steps) for bucket in self._buckets)
        if wait_s > _LONGEST_WAIT_S:
            raise ResourceExhausted(
                f"{steps} steps, too many a second: they would have to wait {wait_s:.1f} s",
                field="steps",
                retry_after_s=wait_s,
            )
        for bucket in self._buckets:
            bucket.take(steps)
        return max(wait_s, 0.0)


class Quotas:
    """Quotas of all callers of a server."""

    def __init__(self, config: ServerConfig, clock: Callable[[], float]) -> None:
        self.streams = 0
        self.bucket = TokenBucket(config.max_steps_per_s, clock)
        self._config = config
        self._clock = clock
        self._of: dict[str, Quota] = {}

    def of(self, who: Identity) -> Quota:
        """The caller's quota. Anonymous callers share one, without per-client limits."""
        known = self._of.get(who.name)
        if known is None:
            config = self._config
            rate = config.max_steps_per_s_per_client if who.name else 0.0
            most = config.max_streams_per_client if who.name else config.max_streams
            known = self._of[who.name] = Quota(self, TokenBucket(rate, self._clock), most, who.name)
        return known

    def begin_stream(self) -> None:
        """Count a stream. Raises ResourceExhausted at the limit."""
        if self.streams >= self._config.max_streams:
            raise ResourceExhausted(
                f"the server has {self.streams} streams, its limit (max_streams)", retry_after_s=5.0
            )
        self.streams += 1
