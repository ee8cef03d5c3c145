"""Answers that no rate counts: to whoever was not let in or asks too often, and public pages.

Each costs as much as an honest one. A connection has one answer at a time, so having it wait is
what keeps them few; to refuse faster would only have them come faster.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator_api.dependencies import Context

# To one caller, or to all together who are nobody: so many a second, and at once after a pause.
PER_SECOND, AT_ONCE = 50.0, 200
# More connections than this has answers for are the business of whatever is before us.
LONGEST_WAIT_SECONDS = 5.0
# Callers who are remembered. Who is forgotten may have as many at once again.
REMEMBERED = 10_000
NOBODY = ""
TOO_MANY = 429
# What a request with a body has, and how many of those may wait: all others have to come again.
BODY = (b"content-length", b"transfer-encoding")
MOST_LADEN = 64


class Lanes:
    """When the next of such answers is due, to each caller."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next: OrderedDict[str, float] = OrderedDict()

    def due(self, caller: str) -> float:
        """Count an answer, and return in how many seconds it may be given."""
        now = self._clock()
        earliest = now - AT_ONCE / PER_SECOND
        begins = max(self._next.pop(caller, earliest), earliest)
        begins = min(begins, now + LONGEST_WAIT_SECONDS)
        self._next[caller] = begins + 1 / PER_SECOND
        if len(self._next) > REMEMBERED:
            self._next.popitem(last=False)
        return max(0.0, begins - now)


class Unhurried:
    """Gives such answers of *app* when they are due."""

    def __init__(self, app: ASGIApp, context: Context | None) -> None:
        self._app, self._context = app, context
        self._lanes = Lanes()
        # Those that wait with a body, of which some has come and takes memory.
        self._laden = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def when_due(message: Message) -> None:
            if message["type"] == "http.response.start" and self._counts_for_nobody(scope, message):
                await self._wait(scope, message)
            await send(message)

        await self._app(scope, receive, when_due)

    def _counts_for_nobody(self, scope: Scope, message: Message) -> bool:
        if message["status"] == TOO_MANY:
            return True
        # Where nobody is asked, all callers are one, who may be a portal.
        asked = self._context is not None and not self._context.door.open
        return asked and "caller" not in scope.get("state", {})

    async def _wait(self, scope: Scope, message: Message) -> None:
        seconds = self._lanes.due(scope.get("state", {}).get("caller", NOBODY))
        if not seconds:
            return
        if not any(name in BODY for name, _ in scope["headers"]):
            await asyncio.sleep(seconds)
        elif self._laden >= MOST_LADEN:
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        else:
            self._laden += 1
            try:
                await asyncio.sleep(seconds)
            finally:
                self._laden -= 1
