"""So much a second for each of many, whoever they are."""

import time
from collections import OrderedDict
from collections.abc import Callable


class Allowance:
    """Each of many may have *per_second* of something; what was not used for a while, *at_once*.

    What is had too early is owed, and owed is at most what comes in *most_owed* seconds. Of those
    who are *remembered* the one heard of longest ago is forgotten, its debts, too.
    """

    def __init__(
        self,
        per_second: float,
        at_once: float,
        most_owed: float = float("inf"),
        remembered: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second, self._saved_seconds = per_second, at_once / per_second
        self._most_owed, self._remembered, self._clock = most_owed, remembered, clock
        # By when each may have had what it has had.
        self._until: OrderedDict[str, float] = OrderedDict()

    def owed(self, whose: str) -> float:
        """Return in how many seconds all that *whose* has had is paid."""
        return max(0.0, self._until.get(whose, 0.0) - self._clock())

    def spend(self, whose: str, amount: float = 1.0) -> float:
        """Have *amount* more, and return in how many seconds that is due: what was owed before."""
        now = self._clock()
        saved = now - self._saved_seconds
        begins = max(self._until.pop(whose, saved), saved)
        self._until[whose] = min(begins + amount / self._per_second, now + self._most_owed)
        if len(self._until) > self._remembered:
            self._until.popitem(last=False)
        return max(0.0, begins - now)
