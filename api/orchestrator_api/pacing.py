"""Bodies: none is waited for for ever, and who sends many at once has them wait for each other."""

import asyncio
import time
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary

from orchestrator_api.errors import TooSlow

IDLE_SECONDS = 30.0
SLOW_START_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 32 * 1024


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

    Who sends a hundred bodies would else have a hundred times the process of who sends one.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def of(self, caller: str, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass *body* on, each piece when it is *caller*'s turn."""
        lock = self._locks.setdefault(caller, asyncio.Lock())
        async for data in body:
            async with lock:
                await asyncio.sleep(0)  # once around, in which all others had theirs
            yield data
