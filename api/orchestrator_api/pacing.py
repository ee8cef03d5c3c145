"""Bodies: none is waited for for ever, and who sends many at once has them wait for each other."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from weakref import WeakValueDictionary

from orchestrator_api.errors import TooSlow
from orchestrator_wire.uploads import SMALL_BYTES

IDLE_SECONDS = 30.0
SLOW_START_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 32 * 1024
# A caller is there for so long after it asked for something; so many are given way to.
THERE_SECONDS, MOST_WAITED_FOR = 2.0, 10
SHORTEST_SLEEP_SECONDS, LONGEST_SLEEP_SECONDS = 0.002, 0.25
LONGEST_WORK_SECONDS = 0.003
# Who sent nothing for a while need not give way at once: a body of a megabyte may come as it will.
SAVED_WORK_SECONDS = 0.1
# Jobs that are made in a second. While others are there, a user has its share of them, and may have
# at once what it did not use for so long.
JOBS_PER_SECOND, SAVED_SECONDS = 50.0, 2.0


async def paced(body: AsyncIterator[bytes], *, drips: bool = False) -> AsyncIterator[bytes]:
    """Pass *body* on; raises TooSlow when nothing comes for long.

    Unless it *drips* with our leave, it must come at a decent rate, too. Only the time that the
    sender takes counts, not the time that we do.
    """
    waited, size = 0.0, 0
    while True:
        started = time.monotonic()
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                data = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise TooSlow("The upload stopped half-way. Send it again.") from error
        waited += time.monotonic() - started
        size += len(data)
        if not drips and waited > SLOW_START_SECONDS + size / SLOWEST_BYTES_PER_SECOND:
            raise TooSlow(
                f"The upload is slower than {SLOWEST_BYTES_PER_SECOND} bytes a second. "
                "Send it again."
            )
        yield data


class Turns:
    """Callers in turn: of each, one piece of one body is taken in between two of another's.

    Who sends a hundred bodies would else have a hundred times the process of who sends one. And
    what is large gives way to all others who are there, polls for instance, as if each had a share;
    so does a user who makes many jobs.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turns: WeakValueDictionary[str, Turn] = WeakValueDictionary()
        # When each caller last asked for anything, in that order. Until it is forgotten its turn
        # is kept, too.
        self._seen: OrderedDict[str, tuple[float, Turn]] = OrderedDict()

    def saw(self, caller: str) -> None:
        """Note that *caller* is there."""
        self._seen[caller] = self._clock(), self._turn(caller)
        self._seen.move_to_end(caller)
        self._forget()

    def others(self, caller: str) -> int:
        """Return how many others there are."""
        self._forget()
        return len(self._seen) - (caller in self._seen)

    async def of(self, caller: str, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass *body* on, each piece when it is *caller*'s turn."""
        turn, size = self._turn(caller), 0
        async for data in body:
            size += len(data)
            if size > SMALL_BYTES:
                await turn.give_way(min(self.others(caller), MOST_WAITED_FOR))
            elif data:
                await turn.wait()
            yield data

    def job_in(self, caller: str) -> float:
        """Count one more job of *caller*'s, and return in how many seconds it may be made."""
        others = min(self.others(caller), MOST_WAITED_FOR)
        return self._turn(caller).job_in(self._clock(), others / JOBS_PER_SECOND)

    def _turn(self, caller: str) -> "Turn":
        return self._turns.setdefault(caller, Turn())

    def _forget(self) -> None:
        limit = self._clock() - THERE_SECONDS
        while self._seen and next(iter(self._seen.values()))[0] < limit:
            self._seen.popitem(last=False)


class Turn:
    """When the next piece of a caller may be taken in."""

    def __init__(self) -> None:
        self._lock, self._large = asyncio.Lock(), asyncio.Lock()
        self._next_piece = self._next_job = -math.inf

    def job_in(self, now: float, apart: float) -> float:
        """Count a job that is made *apart* seconds after the one before; returns when it may be."""
        self._next_job = max(self._next_job, now - SAVED_SECONDS) + apart
        return max(0.0, self._next_job - now)

    async def wait(self) -> float:
        """Wait until the process has been once around; returns how many seconds that took."""
        async with self._lock:
            began = time.monotonic()
            await asyncio.sleep(0)
            return time.monotonic() - began

    async def give_way(self, others: int) -> None:
        """Wait like that, and as long again for each of *others*, but for what was saved."""
        async with self._large:
            apart, now = (1 + others) * await self.wait(), time.monotonic()
            self._next_piece = max(self._next_piece, now - SAVED_WORK_SECONDS) + apart
            if (owed := self._next_piece - now) > SHORTEST_SLEEP_SECONDS:
                await asyncio.sleep(min(owed, LONGEST_SLEEP_SECONDS))


class Breaks:
    """Has long work let others have the process, every few milliseconds."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    async def take(self) -> None:
        """Go once around, if it is time."""
        if time.monotonic() - self._since > LONGEST_WORK_SECONDS:
            await asyncio.sleep(0)
            self._since = time.monotonic()
