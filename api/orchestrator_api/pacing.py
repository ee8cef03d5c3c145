"""Senders that are gone, or as good as gone: no body is waited for for ever."""

import asyncio
import time
from collections.abc import AsyncIterator

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
