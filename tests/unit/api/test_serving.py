"""The server as it is in production, on a real socket: what it makes of HTTP that means harm."""

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orchestrator_api import serving
from orchestrator_api.identity.door import Door, IdentitySettings
from orchestrator_api.serving import Protocol
from tests.support.loopback import served
from tests.support.raw import (
    CHUNKED,
    FLOODS,
    HOST,
    LAST,
    MEGABYTE,
    ON_THE_WAY,
    REQUESTS,
    SPELLINGS,
    UPLOAD,
    Address,
    answers,
    endless,
    get,
    let_in,
    post,
)
from tests.support.system import System
from tests.unit.api.test_gateway import ME, submit
from tests.unit.api.test_identity import KEYS, a_file

LENIENT = ("headers", "chunked_length", "transfer_encoding", "version", "optional_lf_after_cr",
           "optional_cr_before_lf", "optional_crlf_after_chunk", "spaces_after_chunk_size")  # fmt: skip


class Lenient(Protocol):
    """A server that overlooks what it can."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for name in LENIENT:
            self.parser.set_dangerous_leniencies(**{f"lenient_{name}": True})


@pytest.fixture
def app(system: System) -> Any:
    """Return the application of which the corpus asks nothing but what is not there."""
    transport: Any = system.rest._transport
    return transport.app


async def statuses(address: Address, *pieces: bytes) -> list[int]:
    return (await asyncio.to_thread(answers, address, pieces))[0]


async def test_two_requests_never_become_three_and_doubt_ends_the_connection(app: Any) -> None:
    async with served(app) as address:
        found = {name: await statuses(address, raw + LAST) for name, (raw, _) in REQUESTS.items()}
        # Wherever it is cut on its way.
        for name, (raw, expected) in REQUESTS.items():
            bits = [bytes([byte]) for byte in raw] if expected == [404, 200] else []
            assert not bits or await statuses(address, *bits, LAST) == expected, name
    assert found == {name: expected for name, (_, expected) in REQUESTS.items()}


async def test_a_lenient_server_would_let_those_through(app: Any) -> None:
    """The counter-proof: what is refused above depends on what the server insists on."""
    names = [
        "a length and chunks", "chunks and a length", "a space before the colon", "folded chunks",
        "chunks twice", "no end of a chunk", "LF after a size", "LF after a chunk",
        "a space after a size", "LF alone", "one LF", "a folded field", "NUL in a value",
        "a length in a trailer",
    ]  # fmt: skip
    async with served(app, Lenient) as address:
        found = {name: await statuses(address, REQUESTS[name][0] + LAST) for name in names}
    assert found == {name: [404, 200] for name in names}


class Uvicorns(HttpToolsProtocol):
    """The server without our own."""


async def test_uvicorns_own_would_let_these_through(app: Any) -> None:
    names = ["no host", "two hosts", "two credentials", "two types", "two ranges", "a fragment"]
    async with served(app, Uvicorns) as address:
        found = {name: await statuses(address, REQUESTS[name][0] + LAST) for name in names}
    assert found == {name: [404, 200] for name in names}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_of(app: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(serving, "DISCARDED_BYTES_PER_SECOND", 1 << 40)
    first, more, status, most = FLOODS[name]
    flood = partial(endless, first, more, most + 2 * ON_THE_WAY)
    async with served(app) as address:
        found, sent = await asyncio.to_thread(answers, address, flood())
    # A client that goes on sending may not get to read the answer.
    assert found in ([status], []) or (status is None and found in ([400], [404]))
    assert sent < most + ON_THE_WAY, sent
    async with served(app, Uvicorns) as address:
        sent = await asyncio.to_thread(let_in, address, flood())
    assert sent > most + 2 * ON_THE_WAY


async def test_ten_gigabytes_without_a_key_are_not_read(
    system: System, app: Any, tmp_path: Path
) -> None:
    ask_for_keys(system, tmp_path)
    first, more, *_ = FLOODS["ten gigabytes to upload"]
    flood = endless(first, more, 2 * ON_THE_WAY)
    async with served(app) as address:
        found, sent = await asyncio.to_thread(answers, address, flood)
        assert found in ([401], [])
        assert sent < ON_THE_WAY
        # Whoever asks before it sends gets to read the answer.
        asking = first[:-2] + b"Expect: 100-continue\r\n\r\n"
        assert await statuses(address, asking) == [401]


AHEAD = b"".join([get(b"/nowhere")] * 100)
CRUMBS = post(CHUNKED, b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")
# What costs much and is little, whatever the limit that refuses it, and the answers without that limit.
LIMITS: dict[str, tuple[bytes, str, list[list[int]], list[int]]] = {
    "fields": (get(b"/nowhere", b"A:\r\n" * 1000), "MOST_FIELDS", [[400]], [404, 200]),
    # What had been read when the first of them was answered, is chance.
    "small chunks": (CRUMBS, "MOST_SMALL_CHUNKS", [[400], [404]], [404, 200]),
    "requests ahead of their answers": (AHEAD, "MOST_AHEAD", [[]], [404] * 100 + [200]),
}


@pytest.mark.parametrize("name", LIMITS)
async def test_there_may_not_be_too_many(
    app: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    raw, limit, refusals, lifted = LIMITS[name]
    async with served(app) as address:
        assert await statuses(address, raw + LAST) in refusals
        monkeypatch.setattr(serving, limit, 1 << 30)
        assert await statuses(address, raw + LAST) == lifted


@pytest.mark.parametrize(("unread", "there"), [(serving.UNREAD, False), (b"", True)])
async def test_cookies_do_not_reach_the_framework(
    monkeypatch: pytest.MonkeyPatch, unread: bytes, there: bool
) -> None:
    """One of 60 kB had it busy for a quarter of a minute, whoever sent it."""
    monkeypatch.setattr(serving, "UNREAD", unread)
    heads = []

    async def application(scope: Any, _receive: Any, send: Any) -> None:
        heads.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with served(application) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(get(b"/", b"COOKIE: a=b\r\nConnection: close\r\n"))
        await reader.read(-1)
        writer.close()
    assert [b"cookie" in head for head in heads] == [there]


@pytest.mark.parametrize("handled", [True, False])
@pytest.mark.parametrize("of", ["rest", "gateway"])
async def test_a_client_that_goes_away_is_no_error(
    system: System, capsys: pytest.CaptureFixture[str], of: str, handled: bool
) -> None:
    """Each left a hundred lines in the log, for a request of a hundred bytes."""
    app = getattr(system, of)._transport.app
    if not handled:
        del app.exception_handlers[ClientDisconnect]
    submit(system, phase="Running", pod={"name": "job-1-1", "uid": "uid-me", "node": "node-1"})
    head = {
        "rest": UPLOAD,
        "gateway": b"PUT /results HTTP/1.1\r\n%bAuthorization: %b\r\n"
        % (HOST, ME["Authorization"].encode()),
    }[of]
    async with served(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(head + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n--M\r\n")
        assert b" 100 " in await reader.readline()
        writer.close()
        while any("run_asgi" in str(task) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.005)
    assert ("Traceback" in capsys.readouterr().err) != handled


async def quiet(address: Address, *pieces: bytes, pause: float = 0.01) -> bool:
    """Return whether the server shuts a connection on which too little comes."""
    reader, writer = await asyncio.open_connection(*address)
    for piece in pieces:
        if not writer.transport.is_closing():
            writer.write(piece)
        await asyncio.sleep(pause)
    try:
        async with asyncio.timeout(1):
            await reader.read(-1)
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return True


# What is sent, in pieces, and then nothing more.
IDLE = {
    "nothing": [],
    "half a head": [get(b"/nowhere")[:-2]],
    "a head that drips": [bytes([byte]) for byte in get(b"/nowhere")[:-2]],
    "line ends": [b"\r\n"] * 30,
    "line ends after an answer": [get(b"/nowhere"), *[b"\r\n"] * 30],
    "half a head after an answer": [get(b"/nowhere"), b"G"],
    "a body for nobody": [get(b"/nowhere", b"Content-Length: 1000\r\n"), *[b"x"] * 30],
}


async def test_nobody_is_waited_for_for_ever(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PATIENCE_SECONDS", 0.1)
    async with served(app) as address:
        found = {name: await quiet(address, *pieces) for name, pieces in IDLE.items()}
    assert found == dict.fromkeys(IDLE, True)
    async with served(app, Uvicorns) as address:
        shut = await asyncio.gather(*(quiet(address, *pieces) for pieces in IDLE.values()))
    assert shut == [False] * len(IDLE)


@pytest.mark.parametrize(("protocol", "alive"), [(Protocol, False), (Uvicorns, True)])
async def test_a_reader_that_does_not_read_is_given_up(
    monkeypatch: pytest.MonkeyPatch, protocol: Any, alive: bool
) -> None:
    monkeypatch.setattr(serving, "PATIENCE_SECONDS", 0.1)
    ended = asyncio.Event()

    async def download(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        ended.set()

    async with served(download, protocol) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(get(b"/"))
        try:
            async with asyncio.timeout(1):
                await ended.wait()
        except TimeoutError:
            assert alive
        else:
            assert not alive
        writer.transport.abort()


@pytest.mark.parametrize(("protocol", "written"), [(Protocol, False), (Uvicorns, True)])
async def test_nothing_is_written_into_an_answer_that_is_under_way(
    protocol: Any, written: bool
) -> None:
    """Rubbish behind a request put uvicorn's 400 into the midst of the file that was answered."""
    begun = asyncio.Event()

    async def download(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        begun.set()
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"x" * 1000})

    async with served(download, protocol) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(get(b"/"))
        await begun.wait()
        writer.write(b"rubbish\r\n\r\n")
        with suppress(ConnectionError):
            assert (b"HTTP" in (await reader.read(-1))[4:]) == written
        writer.close()


@pytest.mark.parametrize(("protocol", "taken"), [(Protocol, False), (Uvicorns, True)])
@pytest.mark.parametrize("head", [b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_no_body_is_taken_behind_a_request_that_waits_for_its_answer(
    protocol: Any, taken: bool, head: bytes
) -> None:
    """Sixty requests ahead of it, a piece of it more was kept with each of their answers."""
    asked, answered = [], asyncio.Event()

    async def slow(scope: Any, _receive: Any, send: Any) -> None:
        asked.append(scope["method"])
        await answered.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with served(slow, protocol) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(get(b"/") + b"POST / HTTP/1.1\r\n" + HOST + head + b"\r\n4\r\nbody")
        await asyncio.sleep(0.1)
        answered.set()
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(0.5):
                await reader.read(-1)
        writer.transport.abort()
    assert asked == ["GET", *(["POST"] if taken else [])]


def ask_for_keys(system: System, folder: Path) -> None:
    keys = IdentitySettings(api_keys_file=str(a_file(folder)))
    object.__setattr__(system.context, "door", Door(keys))


async def test_no_spelling_of_a_request_gives_anothers_rights(
    system: System, app: Any, tmp_path: Path
) -> None:
    assert (await system.upload()).status_code == 201
    ask_for_keys(system, tmp_path)
    found = {}
    async with served(app) as address:
        for name, (raw, *_) in SPELLINGS.items():
            told = []
            for caller in ("one", "two"):
                key = f"Authorization: Bearer {KEYS[caller]}\r\nConnection: close\r\n\r\n".encode()
                told += await statuses(address, raw[:-2] + key)
            found[name] = tuple(told)
    assert found == {name: (own, others) for name, (_, own, others) in SPELLINGS.items()}
    assert "terminate" not in system.jobs()[0]["spec"]


async def test_no_answer_names_the_host_that_a_request_names(app: Any) -> None:
    """Found in review: /swagger led on to http://HOST/swagger/."""
    async with served(app) as address:
        for path in (b"/swagger", b"/upload/", b"/v1/jobs/7/explain/", b"/download/x"):
            raw = get(path, b"Connection: close\r\n").replace(b"Host: x", b"Host: evil.example")
            reader, writer = await asyncio.open_connection(*address)
            writer.write(raw)
            assert b"evil" not in await reader.read(-1)
            writer.close()


@pytest.mark.parametrize(("rate", "read"), [(1, False), (1 << 40, True)])
async def test_a_body_that_was_refused_is_read_slowly(
    app: Any, monkeypatch: pytest.MonkeyPatch, rate: int, read: bool
) -> None:
    """Who sends what nobody takes had the whole process for it, before all others."""
    monkeypatch.setattr(serving, "DISCARDED_BYTES_PER_SECOND", rate)
    async with served(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(post(b"Content-Length: %d\r\n" % (2 * MEGABYTE))[:-2] + b"\r\n" + bytes(100))
        assert b" 404 " in await reader.readline()
        writer.write(bytes(2 * MEGABYTE - 100) + LAST)
        # Another does not wait for that.
        assert await statuses(address, LAST) == [200]
        try:
            async with asyncio.timeout(2 if read else 0.5):
                rest = await reader.read(-1)
        except TimeoutError:
            rest = b""
        assert (b" 200 " in rest) == read
        writer.transport.abort()


@pytest.mark.parametrize(("per_piece", "read"), [(serving.DISCARDED_PER_PIECE, False), (0, True)])
async def test_small_pieces_of_a_refused_body_cost_their_sender_more(
    app: Any, monkeypatch: pytest.MonkeyPatch, per_piece: int, read: bool
) -> None:
    """As much work as large ones, they were read on at once: the least of them set the pace."""
    monkeypatch.setattr(serving, "DISCARDED_PER_PIECE", per_piece)
    monkeypatch.setattr(Protocol, "discards", 20 * 1000)
    async with served(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(post(CHUNKED))
        assert b" 404 " in await reader.readline()
        writer.write(b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n" + LAST)
        with suppress(ConnectionError):
            assert (b" 200 " in await reader.read(-1)) == read
        writer.close()
