"""The API behind real proxies, over connections that many clients share: nobody gets what is another's.

The corpus of tests/support/raw.py goes through each of them. Whatever a proxy makes of it, the API
must see no request that nobody sent, and the next client must get its own answer.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from posixpath import normpath
from typing import Any

import pytest

from tests.proxies.proxies import KINDS, proxy
from tests.proxies.servers import CLOSE, HONEST, OWN, Bodiless, LenientAndWatched, Log, Watched, by
from tests.support.loopback import served
from tests.support.raw import (
    BOTH,
    CHUNKED,
    FLOODS,
    HALF,
    LAST,
    ON_THE_WAY,
    REQUESTS,
    SPELLINGS,
    UPLOAD,
    Address,
    chunk,
    endless,
    get,
    heard,
    let_in,
    parsed,
)
from tests.support.system import System

# After LAST: whatever took that for a part of the first request is ended by this.
END = LAST.replace(b"/", b"/end", 1)
# A proxy may wait for more of these.
UNFINISHED = {"no end of the chunks", "HTTP/2 as it begins"}
# What a proxy, and not the API, may answer to what it will not pass on.
BY_PROXIES = {400, 403, 405, 501}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def told(data: bytes) -> list[tuple[int, bytes]]:
    """Return the answers; those in HTTP/0.9 and HTTP/2 are one without a status."""
    if data and not data.startswith(b"HTTP/1.1 "):
        return [(0, data)]
    return list(parsed(data))


async def ask(address: Address, *pieces: bytes) -> list[tuple[int, bytes]]:
    return told((await asyncio.to_thread(heard, address, pieces))[0])


async def ask_once(address: Address, pieces: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Send *pieces*, and leave with the first answer."""
    return told((await asyncio.to_thread(heard, address, pieces, once=True))[0])


def amiss(log: Log, statuses: list[int], regular: bool) -> bool:
    """Return whether more than two requests were seen or answered, or others than were sent."""
    seen = log.letters()
    if regular:
        return seen != "FL" or statuses != BOTH
    return (
        re.fullmatch("F?[LE]?", seen) is None
        or max(log.begun, len(statuses)) > 2
        or statuses.count(200) != seen.count("L")
        or 200 in statuses[:-1]
    )


async def mishaps(address: Address, log: Log) -> dict[str, str]:
    """Send each of the corpus; returns what went wrong, by name."""
    found = {}
    for name, (raw, expected) in REQUESTS.items():
        regular = expected == BOTH
        log.clear()
        statuses = [status for status, _ in await ask(address, raw + LAST + END)]
        if amiss(log, statuses, regular):
            found[name] = f"saw {log.letters()}, {log.begun} began, answered {statuses}"
        if name in UNFINISHED:
            continue
        # With no request of its own behind it, the next one on that connection is another client's.
        log.clear()
        await ask_once(address, [raw])
        answers = await ask(address, HONEST)
        seen, shared = log.letters(), log.connections() == 1
        if regular and (seen, shared) != ("FO", True):
            found.setdefault(name, f"saw {seen}, over one connection: {shared}")
        if log.begun > 2 or seen not in ("O", "FO") or answers != [(200, OWN["one"][1])]:
            found[f"after {name}"] = f"saw {seen}, {log.begun} began, answered {answers}"
    return found


async def test_two_requests_never_become_three_behind(kind: str, app: Any, tmp_path: Path) -> None:
    log = Log()
    async with served(app, partial(Watched, log)) as back, proxy(kind, back, tmp_path) as address:
        assert await mishaps(address, log) == {}


async def test_a_lenient_parser_takes_the_next_clients_request_for_a_body(
    app: Any, tmp_path: Path
) -> None:
    """A counter-proof: behind a proxy that passes doubt on, it is our refusal that helps."""
    log = Log()
    async with (
        served(app, partial(LenientAndWatched, log)) as back,
        proxy("lenient haproxy", back, tmp_path) as address,
    ):
        assert "after a space before the colon" in await mishaps(address, log)


CHUNKS = {"a request as a chunk", "half a request as a chunk"}
BODIES = {"a request as a body", "half a request as a body", "after half a request as a body"}


@pytest.mark.parametrize(
    ("kind", "knows_lengths", "expected"),
    [
        # It tells the length of chunks that are there at once.
        ("nginx", False, BODIES | CHUNKS),
        ("haproxy", False, BODIES | CHUNKS),
        ("haproxy", True, CHUNKS),
    ],
)
async def test_a_server_that_ends_bodies_elsewhere_is_found_out(
    kind: str, knows_lengths: bool, expected: set[str], tmp_path: Path
) -> None:
    """Another: proxies pass on what servers differ about, and the test hears of it."""
    log = Log()
    naive = await asyncio.start_server(Bodiless(log, knows_lengths).serve, "127.0.0.1", 0)
    async with naive, proxy(kind, naive.sockets[0].getsockname(), tmp_path) as address:
        found = (await mishaps(address, log)).keys()
    assert found >= expected
    assert found.isdisjoint({"a length"} | (BODIES if knows_lengths else set()))


async def test_an_upload_streams_to_the_api_and_no_part_of_it_becomes_a_request_behind(
    kind: str, app: Any, system: System, tmp_path: Path
) -> None:
    log = Log()
    file = b'--M\r\nContent-Disposition: form-data; name="file"; filename="run.sh"\r\n\r\n'
    field = b'--M\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    form = field % (b"user_id", b"1") + field % (b"service", b"example") + file

    def pieces() -> Iterator[bytes]:
        yield by("one", UPLOAD + b"\r\n", CHUNKED)
        # The rest is sent once the API has the head: no proxy waits for the whole.
        assert log.arrived.wait(30)
        for body in (form, LAST, HALF, b"\r\n--M--\r\n"):
            yield chunk(body)
        yield chunk(b"")

    async with served(app, partial(Watched, log)) as back, proxy(kind, back, tmp_path) as address:
        ((status, _),) = await ask_once(address, pieces())
        assert status == 201
        assert await ask(address, HONEST) == [(200, OWN["one"][1])]
    assert [target for _, target in log.seen] == [b"/upload", OWN["one"][0]]
    assert log.connections() == 1
    assert len(system.jobs()) == len(OWN) + 1


async def test_after_a_flood_the_next_client_is_answered_behind(
    kind: str, app: Any, tmp_path: Path
) -> None:
    log, found = Log(), {}
    async with served(app, partial(Watched, log)) as back, proxy(kind, back, tmp_path) as address:
        for name, (first, more, *_) in FLOODS.items():
            log.clear()
            await asyncio.to_thread(let_in, address, endless(first, more, ON_THE_WAY))
            answers = await ask(address, HONEST)
            found[name] = log.begun <= 2 and answers == [(200, OWN["one"][1])]
    assert found == dict.fromkeys(FLOODS, True)


async def test_callers_who_share_connections_get_their_own_behind(
    kind: str, app: Any, tmp_path: Path
) -> None:
    log = Log()

    async def wrong(address: Address, caller: str) -> list[tuple[int, bytes]]:
        path, data = OWN[caller]
        pieces = [by(caller, get(path))] * 40 + [by(caller, get(path), CLOSE)]
        found = await ask(address, *pieces)
        assert len(found) == len(pieces)
        return [answer for answer in found if answer != (200, data)]

    async with served(app, partial(Watched, log)) as back, proxy(kind, back, tmp_path) as address:
        found = await asyncio.gather(*(wrong(address, caller) for caller in [*OWN] * 4))
    assert found == [[]] * len(found)
    assert log.connections() <= len(found)


async def strays(address: Address) -> set[str]:
    """Ask for job 1 in every spelling, as its user and as another; returns what went astray."""
    found = set()
    for name, (raw, *expected) in SPELLINGS.items():
        for caller, status in zip(OWN, expected, strict=True):
            ((got, body),) = await ask(address, by(caller, raw, CLOSE))
            is_file = body == OWN["one"][1]
            if got not in BY_PROXIES | {status} or (got == 200) != is_file:
                found.add(name)
    return found


async def test_no_spelling_of_a_request_gives_anothers_rights_behind(
    kind: str, app: Any, tmp_path: Path
) -> None:
    log = Log()
    async with served(app, partial(Watched, log)) as back, proxy(kind, back, tmp_path) as address:
        assert await strays(address) == set()
    # Most of it did not end at the proxy.
    assert log.begun > len(SPELLINGS)


class Credulous:
    """The API, if it believed what the fields beside a request say of it, and tidied paths up."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        said = dict(scope["headers"])
        path = said.get(b"x-original-url", scope["path"].encode()).decode()
        if (key := said.get(b"x-forwarded-access-token")) is not None:
            said[b"authorization"] = b"Bearer " + key
        believed = {
            "method": said.get(b"x-http-method-override", scope["method"].encode()).decode(),
            "path": normpath(path),
            "headers": [*said.items()],
        }
        await self._app(scope | believed, receive, send)


async def test_an_api_that_believes_what_stands_beside_a_request_is_found_out_behind(
    kind: str, app: Any, tmp_path: Path
) -> None:
    """The counter-proof: the proxies pass all of that on."""
    believed = {"another path beside it", "another name", "another method", "dot segments"}
    async with (
        served(Credulous(app), partial(Watched, Log())) as back,
        proxy(kind, back, tmp_path) as address,
    ):
        assert await strays(address) >= believed
