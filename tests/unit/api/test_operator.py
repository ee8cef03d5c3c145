"""Asking the operator: nobody's questions keep others from asking."""

import asyncio
from functools import partial

import pytest
from aiohttp import web

from orchestrator_api import operator
from tests.support.loopback import listening


@pytest.mark.parametrize("shared", [True, False])
async def test_questions_of_one_caller_leave_room_for_anothers(
    monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    if not shared:
        monkeypatch.setattr(operator, "USERS_AT_ONCE", operator.AT_ONCE)
    asked, answer = [], asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        asked.append(request.path)
        await answer.wait()
        return web.json_response({"asOf": "2026-01-01T00:00:00Z"})

    app = web.Application()
    app.router.add_get("/explain/{name}", slow)
    async with listening(app) as address:
        host, port = address.split(":")
        one = operator.Operator(host, int(port))
        ask = partial(one.explain, only_user=True)
        evil = [asyncio.create_task(ask(f"job-{n}", "mallory")) for n in range(9)]
        while len(asked) < (2 if shared else 8):
            await asyncio.sleep(0.01)
        honest = asyncio.create_task(ask("job-9", "alice"))
        while not honest.done() and "/explain/job-9" not in asked:
            await asyncio.sleep(0.01)
        assert ("/explain/job-9" in asked) is shared
        answer.set()
        assert (await honest is not None) is shared
        found = await asyncio.gather(*evil)
        assert len([told for told in found if told]) == (2 if shared else 8)
        # Whoever has an answer may ask again.
        assert await ask("job-1", "mallory")
