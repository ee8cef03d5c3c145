"""Answers that no rate counts: to whoever was not let in or asks too often, and public pages.

Each costs as much as an honest one. A connection has one answer at a time, so having it wait is
what keeps them few; to refuse faster would only have them come faster.
"""

import asyncio
from functools import partial
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator_api.allowance import Allowance
from orchestrator_api.dependencies import Context

# To one caller, or to all together who are nobody: so many a second, and at once after a pause.
PER_SECOND, AT_ONCE = 50.0, 200
# So many bytes of a body that are read after its answer, and for nothing, cost as much as one.
BYTES_OF_ONE = 256 << 10
# More connections than this has answers for are the business of whatever is before us.
LONGEST_WAIT_SECONDS = 2.0
# Those who are nobody: what they are refused does not hold up a look at /health.
REFUSED, PUBLIC = "", "/"
# How many may wait, and how much may have come of their bodies: all others have to come again. Of
# one body the server reads at most so much ahead.
MOST_WAITING, MOST_BYTES, AHEAD_BYTES = 1024, 128 << 20, 320 << 10


class Unhurried:
    """Gives such answers of *app* when they are due."""

    def __init__(self, app: ASGIApp, context: Context | None) -> None:
        self._app, self._context = app, context
        self._lanes = Allowance(PER_SECOND, AT_ONCE, most_owed=LONGEST_WAIT_SECONDS)
        self._waiting = self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def when_due(message: Message) -> None:
            if message["type"] == "http.response.start":
                lane = self._lane(scope, message["status"])
                if lane is not None:
                    scope.setdefault("state", {})["discarded"] = partial(self._discarded, lane)
                    if seconds := self._lanes.spend(lane):
                        await self._wait(scope, message, seconds)
            await send(message)

        await self._app(scope, receive, when_due)

    def _lane(self, scope: Scope, status: int) -> str | None:
        """Return whose the answer is, or None when a caller's rate counts it."""
        caller: str | None = scope.get("state", {}).get("caller")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return caller or REFUSED
        # Where nobody is asked, all callers are one, who may be a portal.
        if caller is not None or self._context is None or self._context.door.open:
            return None
        return REFUSED if status >= HTTPStatus.BAD_REQUEST else PUBLIC

    def _discarded(self, lane: str, size: int) -> None:
        self._lanes.spend(lane, size / BYTES_OF_ONE)

    async def _wait(self, scope: Scope, message: Message, seconds: float) -> None:
        size = _read_ahead(scope)
        if self._waiting >= MOST_WAITING or self._bytes + size > MOST_BYTES:
            message["headers"] = [*message["headers"], (b"connection", b"close")]
            return
        self._waiting += 1
        self._bytes += size
        try:
            await asyncio.sleep(seconds)
        finally:
            self._waiting -= 1
            self._bytes -= size


def _read_ahead(scope: Scope) -> int:
    """Return how many bytes of a request's body may be in memory."""
    fields = dict(scope["headers"])
    if b"transfer-encoding" in fields:
        return AHEAD_BYTES
    return min(int(fields.get(b"content-length", b"0")), AHEAD_BYTES)
