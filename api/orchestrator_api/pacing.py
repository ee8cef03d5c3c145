"""Bodies: none is waited for for ever; and callers in turn, when they send or submit much."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from weakref import WeakValueDictionary

from orchestrator_api.errors import TooManyRequests, TooSlow
from orchestrator_wire.uploads import SMALL_BYTES

IDLE_SECONDS = 30.0
SLOW_START_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 32 * 1024
# A caller is there for so long after it asked for something; so many are given way to.
THERE_SECONDS, MOST_WAITED_FOR = 2.0, 10
SHORTEST_SLEEP_SECONDS, LONGEST_SLEEP_SECONDS = 0.002, 0.25
LONGEST_WORK_SECONDS = 0.003
# Who sent nothing for a while need not give way at once.
SAVED_WORK_SECONDS = 0.2
# What taking a byte in or handing it out takes of a processor, as benchmarks have it.
WORK_SECONDS_PER_BYTE = 3e-9
# Jobs that are made in a second. While others are there, a user has its share of them, but at least
# an eleventh; it may have at once what it did not use for so long, and wait for so long.
JOBS_PER_SECOND, SAVED_SECONDS, LONGEST_WAIT_SECONDS = 50.0, 2.0, 2.0


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
    whoever goes on sending what is large gives way to all others who are there, with polls for
    instance, as if each had a share; so does a user who goes on making jobs.
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
        """Pass *body* on, each piece when it is *caller*'s turn, and close it at the end."""
        turn, size = self._turn(caller), 0
        try:
            async for data in body:
                size += len(data)
                if size > SMALL_BYTES:
                    work = len(data) * WORK_SECONDS_PER_BYTE
                    await turn.give_way(min(self.others(caller), MOST_WAITED_FOR), work)
                elif data:
                    await turn.wait()
                yield data
        finally:
            await body.aclose()  # type: ignore[attr-defined]

    async def job(self, caller: str) -> None:
        """Wait until *caller* may make one more job; raises TooManyRequests if that takes long."""
        turn, others = self._turn(caller), min(self.others(caller), MOST_WAITED_FOR)
        await asyncio.sleep(turn.job_in(self._clock(), others))
        # Its turn is forgotten only once it has rested.
        self.saw(caller)

    def _turn(self, caller: str) -> "Turn":
        return self._turns.get(caller) or self._turns.setdefault(caller, Turn())

    def _forget(self) -> None:
        limit = self._clock() - THERE_SECONDS
        while self._seen and next(iter(self._seen.values()))[0] < limit:
            self._seen.popitem(last=False)


class Turn:
    """When the next piece of a caller may be taken in, and its next job be made."""

    def __init__(self) -> None:
        self._lock, self._large = asyncio.Lock(), asyncio.Lock()
        self._next_piece = self._next_job = -math.inf

    def job_in(self, now: float, others: int) -> float:
        """Count one more job, and return in how many seconds it may be made.

        Raises TooManyRequests, and does not count it, if that is too long.
        """
        if not others:
            return 0.0
        due = max(self._next_job, now - SAVED_SECONDS) + (1 + others) / JOBS_PER_SECOND
        if due > now + LONGEST_WAIT_SECONDS:
            raise TooManyRequests("Others are there, too: submit fewer jobs at once.")
        self._next_job = due
        return max(0.0, due - now)

    async def wait(self) -> float:
        """Wait until the process has been once around; returns how many seconds that took."""
        async with self._lock:
            began = time.monotonic()
            await asyncio.sleep(0)
            return time.monotonic() - began

    async def give_way(self, others: int, work: float) -> None:
        """Wait like that, and as long again for each of *others*, but for what was saved.

        They get as long, too, as the piece will take itself, which is *work* seconds.
        """
        async with self._large:
            around = await self.wait()
            apart, now = around + others * (around + work), time.monotonic()
            # Owed is never more than one sleep: the others may have gone by then.
            due = max(self._next_piece, now - SAVED_WORK_SECONDS) + apart
            self._next_piece = min(due, now + LONGEST_SLEEP_SECONDS)
            if (owed := self._next_piece - now) > SHORTEST_SLEEP_SECONDS:
                await asyncio.sleep(owed)


class Breaks:
    """Has long work let others have the process, every few milliseconds."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    async def take(self) -> None:
        """Go once around, if it is time."""
        if time.monotonic() - self._since > LONGEST_WORK_SECONDS:
            await asyncio.sleep(0)
            self._since = time.monotonic()
