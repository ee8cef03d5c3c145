"""Answers to "why does this job wait?", on a port that only the API reaches.

An answer takes many passes of the core. They run in a thread, one answer at a time, and for most
of the time none, so that deciding does not wait for them.
"""

import asyncio
import time
from collections import OrderedDict

from aiohttp import web

from orchestrator_crds.explanation import Explanation
from orchestrator_operator.core.explain import explain
from orchestrator_operator.reconcile import Decider

# An answer holds for so long; a portal may ask for the same job again and again.
FRESH_SECONDS = 2.0
REMEMBERED = 1_000
# So many times as long as an answer took, none is worked on.
REST_PER_ANSWER = 3.0
LONGEST_REST_SECONDS = 30.0
IN_LINE = 8


class Enquiries:
    """The desk where the API asks. Only the operator that leads can say anything."""

    def __init__(self) -> None:
        self._decider: Decider | None = None
        self._turn = asyncio.Lock()
        self._in_line = 0
        self._rests_until = 0.0
        self._known: OrderedDict[str, tuple[float, Explanation | None]] = OrderedDict()

    def open(self, decider: Decider) -> None:
        """Answer from what *decider* knows, from now on."""
        self._decider = decider

    def app(self) -> web.Application:
        """Return the server: GET /explain/{name} gives an `Explanation`."""
        app = web.Application()
        app.add_routes([web.get("/explain/{name}", self._explain)])
        return app

    async def _explain(self, request: web.Request) -> web.Response:
        decider = self._decider
        if decider is None or not decider.synced:
            raise web.HTTPServiceUnavailable(text="This operator does not lead (yet).\n")
        if self._in_line >= IN_LINE:
            raise web.HTTPServiceUnavailable(text="Too many ask at once.\n")
        self._in_line += 1
        try:
            async with self._turn:
                if request.transport is None or request.transport.is_closing():
                    raise web.HTTPServiceUnavailable(text="Whoever asked has gone.\n")
                found = await self._answer(decider, request.match_info["name"])
        finally:
            self._in_line -= 1
        if found is None:
            raise web.HTTPNotFound(text="No job of this name waits.\n")
        return web.json_response(found.to_dict())

    async def _answer(self, decider: Decider, name: str) -> Explanation | None:
        clock = time.monotonic
        at, known = self._known.get(name, (0.0, None))
        if name in self._known and clock() - at < FRESH_SECONDS:
            return known
        if name not in decider.mirror.backlog:
            return None
        await asyncio.sleep(self._rests_until - clock())
        begun = clock()
        try:
            snapshot, past = decider.look(), decider.admission.durations.copy()
            found = await asyncio.to_thread(explain, snapshot, name, past)
        finally:
            rest = min(REST_PER_ANSWER * (clock() - begun), LONGEST_REST_SECONDS)
            self._rests_until = clock() + rest
        self._known[name] = (clock(), found)
        self._known.move_to_end(name)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found
