"""How long jobs hold their places, learned service by service from those that have ended."""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator, Mapping

# As many of the last jobs of a service are remembered.
KEPT = 300
# A job that has outlived all of them lasts up to as long again as it has; at least this long.
AT_LEAST_SECONDS = 1.0


class Durations:
    """The last durations of every service, in seconds."""

    def __init__(self) -> None:
        self._last: dict[str, deque[float]] = {}
        self._sorted: dict[str, list[float]] = {}
        self._all: list[float] = []

    @property
    def known(self) -> bool:
        """Return whether any job has ended yet."""
        return bool(self._all)

    def add(self, service: str, seconds: float) -> None:
        """Take in that a job of *service* held its place for so long."""
        last = self._last.setdefault(service, deque())
        if len(last) == KEPT:
            oldest = last.popleft()
            self._sorted[service].remove(oldest)
            self._all.remove(oldest)
        last.append(seconds)
        insort(self._sorted.setdefault(service, []), seconds)
        insort(self._all, seconds)

    def append(self, later: "Durations") -> None:
        """Add all that was learned later than this."""
        for service, last in later._last.items():
            for seconds in last:
                self.add(service, seconds)

    def lasts(self, service: str, age: float, drawn: float) -> float:
        """Return how much longer a job lasts that has held its place for *age* seconds.

        *drawn*, in [0, 1), chooses one of the past jobs that took longer than that. A service
        that knows of none goes by those of all services.
        """
        past = self._sorted.get(service) or self._all
        first = bisect_right(past, age)
        if first == len(past):
            return max(age * drawn, AT_LEAST_SECONDS)
        return past[first + int(drawn * (len(past) - first))] - age

    def copy(self) -> "Durations":
        """Return what is known now; what is learned later does not change it."""
        found = Durations()
        found._last = {name: deque(last) for name, last in self._last.items()}
        found._sorted = {name: list(past) for name, past in self._sorted.items()}
        found._all = list(self._all)
        return found

    def to_dict(self) -> dict[str, list[float]]:
        """Return it as JSON can hold it."""
        return {name: [round(n, 1) for n in last] for name, last in sorted(self._last.items())}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "Durations":
        """Return what `to_dict` gave; raises ValueError or TypeError for anything else."""
        found = cls()
        for service, last in data.items():
            for seconds in list(last)[-KEPT:]:  # type: ignore[call-overload]
                found.add(str(service), float(seconds))
        return found


def draws(seed: int) -> Iterator[float]:
    """Yield numbers in [0, 1) without end, the same for the same seed.

    Marsaglia's 64-bit xorshift with the multiplier of Vigna's xorshift64* (arXiv:1402.6246): the
    core has no randomness of its own.
    """
    mask = 2**64 - 1
    state = (seed + 1) * 0x9E3779B97F4A7C15 & mask
    while True:
        state ^= state >> 12
        state ^= state << 25 & mask
        state ^= state >> 27
        yield ((state * 0x2545F4914F6CDD1D & mask) >> 11) / 2.0**53
