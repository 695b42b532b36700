"""Token buckets: who asks too often waits, and is told for how long.

A bucket holds `burst` tokens and gains `per_second`. The memory is bounded: the bucket that was used longest ago is
forgotten first, which only ever gives somebody tokens back.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from accord.collect.app.settings import Rate


class TokenBuckets:
    """One bucket a key, all with the same rate; safe to use from several threads."""

    def __init__(self, rate: Rate, *, clock: Callable[[], float] = time.monotonic, capacity: int = 20_000) -> None:
        """Make the buckets.

        Args:
            rate: size and refill of each bucket.
            clock: seconds, never going back.
            capacity: keys remembered.
        """
        self.rate = rate
        self._clock = clock
        self._capacity = capacity
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def _level(self, key: str, now: float) -> float:
        tokens, since = self._buckets.get(key, (float(self.rate.burst), now))
        return min(float(self.rate.burst), tokens + (now - since) * self.rate.per_second)

    def take(self, key: str, cost: float = 1.0) -> float:
        """Take tokens; 0.0 when there were enough, else the seconds until there are (and nothing is taken)."""
        with self._lock:
            now = self._clock()
            level = self._level(key, now)
            wait = self._wait(level, cost)
            self._keep(key, level if wait else level - cost, now)
            return wait

    def wait(self, key: str, cost: float = 1.0) -> float:
        """Seconds until `cost` tokens are there, taking none."""
        with self._lock:
            return self._wait(self._level(key, self._clock()), cost)

    def _wait(self, level: float, cost: float) -> float:
        if level >= cost:
            return 0.0
        return (cost - level) / self.rate.per_second if self.rate.per_second > 0 else math.inf

    def _keep(self, key: str, tokens: float, now: float) -> None:
        self._buckets[key] = (tokens, now)
        self._buckets.move_to_end(key)
        while len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)

    def forget(self, key: str) -> None:
        """Fill a key's bucket again, as after a login that succeeded."""
        with self._lock:
            self._buckets.pop(key, None)


def retry_after(seconds: float) -> str:
    """Value of the Retry-After header: whole seconds, at least one, at most an hour."""
    return str(max(1, math.ceil(min(seconds, 3600.0))))
