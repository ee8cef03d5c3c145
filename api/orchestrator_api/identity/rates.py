"""How much one caller may ask for: requests a second, uploads and downloads at once."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import Field

from orchestrator_api.errors import TooManyRequests, Unavailable
from orchestrator_api.identity.principals import Strict

# Principals that are remembered. Who is forgotten starts with a full bucket again.
REMEMBERED = 10_000


class Most(Strict):
    """The most that one principal gets from one replica; 0 sets no limit."""

    requests_per_second: float = Field(default=50, ge=0)
    burst: int = Field(default=200, ge=1)
    uploads_at_once: int = Field(default=8, ge=0)


# Where all callers are one and the same.
NO_LIMITS = Most(requests_per_second=0, uploads_at_once=0)
# Of all callers together. What an upload that is small, or waits, has in memory, and the store's
# connections, are counted by these; one caller gets three quarters.
UPLOADS, DOWNLOADS = 256, 192


class Rates:
    """Token buckets, one for each principal, and what is under way."""

    def __init__(self, most: Most, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._uploads, self._downloads = Crowd(UPLOADS), Crowd(DOWNLOADS)

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
    def uploading(self, caller: str) -> Iterator[None]:
        """Hold one of a caller's places for uploads; raises TooManyRequests or Unavailable."""
        with self._uploads.joined(caller, self._most.uploads_at_once):
            yield

    @contextmanager
    def downloading(self, caller: str) -> Iterator[None]:
        """Hold one of a caller's places for downloads; raises TooManyRequests or Unavailable."""
        with self._downloads.joined(caller, 0):
            yield


class Crowd:
    """What is under way, of every caller."""

    def __init__(self, size: int) -> None:
        """Let in *size* at once."""
        self._size = size
        self._inside: Counter[str] = Counter()

    @contextmanager
    def joined(self, caller: str, most: int) -> Iterator[None]:
        """Be inside while the block runs; *most* is the caller's own limit, 0 for none."""
        share = self._size * 3 // 4
        most = min(most or share, share)
        if self._inside[caller] >= most:
            raise TooManyRequests(f"{most} transfers are under way; wait until one has ended.")
        if self._inside.total() >= self._size:
            raise Unavailable("Too many transfers are under way; try again later.")
        self._inside[caller] += 1
        try:
            yield
        finally:
            self._inside[caller] -= 1
            if not self._inside[caller]:
                del self._inside[caller]
