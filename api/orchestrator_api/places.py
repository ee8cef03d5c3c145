"""Places for large uploads, of which no caller and no user holds more than a share."""

import asyncio
from collections import Counter
from collections.abc import Mapping


class Places:
    """Some places. Who waits comes in order, but past those whose own share is all in use."""

    def __init__(self, size: int) -> None:
        """Make *size* places: a caller has three quarters at most, and a user of it a quarter.

        Whom a caller does not name may be many: all of those together have half.
        """
        self._free = size
        self._most_of_caller, self._most_of_user = max(1, size * 3 // 4), max(1, size // 4)
        self._most_of_unnamed = max(1, size // 2)
        self._held: Counter[tuple[str, ...]] = Counter()
        self._waiting: list[tuple[Seat, asyncio.Future[None]]] = []

    def of(self, caller: str, user: str = "") -> "Seat":
        """Return a seat for an upload of *caller* for *user*, if that is known; not taken yet."""
        return Seat(self, caller, user)

    async def take(self, seat: "Seat") -> None:
        """Wait until a place is free for *seat*, and hold it."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((seat, turn))
        self._call()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(seat)
            raise
        finally:
            self._waiting = [entry for entry in self._waiting if entry[1] is not turn]

    def give(self, seat: "Seat") -> None:
        """Give the place of *seat* to who may have it."""
        self._free += 1
        self._held -= Counter(seat.holders)
        self._call()

    def _call(self) -> None:
        for seat, turn in self._waiting:
            if self._free and not turn.done() and self._may(seat):
                self._free -= 1
                self._held += Counter(seat.holders)
                turn.set_result(None)

    def _may(self, seat: "Seat") -> bool:
        of_user = self._most_of_user if seat.user else self._most_of_unnamed
        most = zip(seat.holders, (self._most_of_caller, of_user), strict=False)
        return all(self._held[holder] < limit for holder, limit in most)


class Seat:
    """A place for one upload, taken and given back like a semaphore."""

    def __init__(self, places: Places, caller: str, user: str) -> None:
        self._places, self._caller, self.user = places, caller, user
        # The form's fields so far; portals that name the user first have their users told apart.
        self.fields: Mapping[str, str] = {}
        self.holders: tuple[tuple[str, ...], ...] = ()

    async def acquire(self) -> None:
        """Wait for the place."""
        self.user = self.user or self.fields.get("user_id", "")
        self.holders = ((self._caller,), (self._caller, self.user))
        await self._places.take(self)

    def release(self) -> None:
        """Give it back."""
        self._places.give(self)
