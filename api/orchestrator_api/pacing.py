"""Bodies: none is waited for for ever, and who sends many at once has them wait for each other."""

import asyncio
import time
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary

from orchestrator_api.errors import TooSlow

IDLE_SECONDS = 30.0
SLOW_START_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 32 * 1024
# How often a caller lets the process go round for each piece that it sends, if others have it busy.
GIVES_WAY = 5.0
SHORTEST_SLEEP_SECONDS = 0.002


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

    Who sends a hundred bodies would else have a hundred times the process of who sends one. And who
    sends without end gives way to all that is over soon, polls for instance.
    """

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, Turn] = WeakValueDictionary()

    async def of(self, caller: str, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass *body* on, each piece when it is *caller*'s turn."""
        turn = self._turns.setdefault(caller, Turn())
        async for data in body:
            await turn.wait()
            yield data


class Turn:
    """When the next piece of a caller may be taken in."""

    def __init__(self) -> None:
        self._lock, self._owed = asyncio.Lock(), 0.0

    async def wait(self) -> None:
        """Wait for all others to have theirs, the longer the more of them there are."""
        async with self._lock:
            began = time.monotonic()
            await asyncio.sleep(0)  # once around
            # A process that has nothing else to do is round in no time.
            self._owed += GIVES_WAY * (time.monotonic() - began)
            if self._owed > SHORTEST_SLEEP_SECONDS:
                owed, self._owed = self._owed, 0.0
                await asyncio.sleep(owed)
