"""How much one principal may ask for: requests a second, and uploads at once."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import Field

from orchestrator_api.errors import TooManyRequests
from orchestrator_api.identity.principals import Strict

# Principals that are remembered. Who is forgotten starts with a full bucket again.
REMEMBERED = 10_000


class Most(Strict):
    """The most that one principal gets from one replica; 0 sets no limit."""

    requests_per_second: float = Field(default=50, ge=0)
    burst: int = Field(default=200, ge=1)
    uploads_at_once: int = Field(default=16, ge=0)


# Where all callers are one and the same.
NO_LIMITS = Most(requests_per_second=0, uploads_at_once=0)


class Rates:
    """Token buckets, one for each principal, and uploads under way."""

    def __init__(self, most: Most, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._uploads: Counter[str] = Counter()

    def count(self, name: str) -> None:
        """Count a request; raises TooManyRequests."""
        rate, burst = self._most.requests_per_second, float(self._most.burst)
        if not rate:
            return
        now = self._clock()
        left, at = self._buckets.pop(name, (burst, now))
        left = min(burst, left + (now - at) * rate)
        allowed = left >= 1
        self._buckets[name] = (left - 1 if allowed else left, now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if not allowed:
            raise TooManyRequests(f"More than {rate:g} requests a second; ask less often.")

    @contextmanager
    def uploading(self, name: str) -> Iterator[None]:
        """Hold one of the principal's places for uploads; raises TooManyRequests."""
        most = self._most.uploads_at_once
        if most and self._uploads[name] >= most:
            raise TooManyRequests(f"{most} uploads are under way; wait until one has ended.")
        self._uploads[name] += 1
        try:
            yield
        finally:
            self._uploads[name] -= 1
            if not self._uploads[name]:
                del self._uploads[name]
