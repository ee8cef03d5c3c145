"""The same for clients that speak HTTP/2 to the proxy, as browsers do: the API hears HTTP/1.1."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.proxies.http2 import ODD, REGULAR, Asked, ask
from tests.proxies.proxies import HTTP2_KINDS, proxy
from tests.proxies.servers import OWN, Bodiless, Log, Watched
from tests.support.loopback import served
from tests.support.raw import Address
from tests.unit.api.test_identity import KEYS

PATH, LEFT = OWN["one"]
HONEST = Asked(((b"authorization", f"Bearer {KEYS['one']}".encode()),), method=b"GET", path=PATH)


async def mishaps(address: Address, log: Log) -> dict[str, str]:
    """Send each of the corpus, and another client's request after it; returns what went wrong."""
    found = {}
    for name, asked in (REGULAR | ODD).items():
        log.clear()
        status, _ = await asyncio.to_thread(ask, address, asked)
        after = await asyncio.to_thread(ask, address, HONEST)
        seen = log.letters()
        as_it_is = (seen, log.connections(), status) == ("FO", 1, 404)
        if log.begun > 2 or seen not in ("O", "FO") or after != (200, LEFT):
            found[name] = f"saw {log.seen}, {log.begun} began, answered {status}, then {after}"
        elif name in REGULAR and not as_it_is:
            found[name] = f"saw {log.seen}, answered {status}"
    return found


@pytest.mark.parametrize("kind", HTTP2_KINDS)
async def test_one_request_over_http2_never_becomes_two_behind(
    kind: str, app: Any, tmp_path: Path
) -> None:
    log = Log()
    async with served(app, partial(Watched, log)) as back, proxy(kind, back, tmp_path) as address:
        assert await mishaps(address, log) == {}


@pytest.mark.parametrize("kind", HTTP2_KINDS)
async def test_a_server_that_knows_no_bodies_is_found_out_behind_http2(
    kind: str, tmp_path: Path
) -> None:
    """The counter-proof: what a body holds is a request to it."""
    log = Log()
    naive = await asyncio.start_server(Bodiless(log, knows_lengths=False).serve, "127.0.0.1", 0)
    async with naive, proxy(kind, naive.sockets[0].getsockname(), tmp_path) as address:
        found = (await mishaps(address, log)).keys()
    assert found >= {"a request as a body", "chunks as a body", "half a request as a body"}
