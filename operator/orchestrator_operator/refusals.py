"""The lane for ends of jobs that wait, be they stopped or refused: so many at once, in order.

Whoever makes many of those has them wait for each other, and not the claims and pods of all.
"""

from collections.abc import Collection
from itertools import islice

AT_ONCE = 8


class Refusals:
    """Names of jobs that are about to end without having run, and those whose turn is to come."""

    def __init__(self) -> None:
        self._under_way: set[str] = set()
        self._waiting: dict[str, None] = {}

    @property
    def room(self) -> int:
        """How many may be taken in now."""
        return AT_ONCE - len(self._under_way)

    @property
    def under_way(self) -> Collection[str]:
        """Those that are being ended."""
        return self._under_way

    @property
    def waiting(self) -> Collection[str]:
        """Those that wait for a place, first come first."""
        return self._waiting.keys()

    def next(self) -> list[str]:
        """Return those whose turn has come."""
        return list(islice(self._waiting, self.room))

    def take(self, name: str) -> bool:
        """Take a place, or a turn for one; returns whether there was a place."""
        if self.room <= 0:
            self._waiting.setdefault(name)
            return False
        self._waiting.pop(name, None)
        self._under_way.add(name)
        return True

    def withdraw(self, name: str) -> None:
        """Have a job wait for no place any more."""
        self._waiting.pop(name, None)

    def over(self, name: str) -> None:
        """Give back the place of a job, if it has one."""
        self._under_way.discard(name)
