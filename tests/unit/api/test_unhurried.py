"""Answers that no rate counts: few in a second, however many connections ask for them."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orchestrator_api import serving, unhurried
from orchestrator_api.identity.door import Door, IdentitySettings
from orchestrator_api.identity.rates import Most
from tests.support.loopback import served
from tests.support.raw import Address, get
from tests.support.system import System
from tests.unit.api.test_identity import KEYS, a_file

CONNECTIONS, AHEAD = 60, 50
PROMPT_SECONDS = 0.5


@pytest.fixture
def door(tmp_path: Path) -> Door:
    limits = Most(requests_per_second=20, burst=20)
    return Door(IdentitySettings(api_keys_file=str(a_file(tmp_path)), limits=limits))


@pytest.fixture
def one_in_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unhurried, "AT_ONCE", 0)
    monkeypatch.setattr(unhurried, "PER_SECOND", 0.1)
    monkeypatch.setattr(unhurried, "LONGEST_WAIT_SECONDS", 60.0)


def as_(caller: str) -> bytes:
    return f"Authorization: Bearer {KEYS.get(caller, caller)}\r\n".encode()


async def flood(address: Address, request: bytes, answered: list[int]) -> None:
    """Ask the same thing again and again over one connection, without waiting for answers."""
    source, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request * AHEAD)
        while data := await source.read(1 << 16):
            count = data.count(b"HTTP/1.1 ")
            answered[0] += count
            writer.write(request * count)
    finally:
        writer.transport.abort()


async def prompt(address: Address, request: bytes) -> bool:
    """Return whether one more is answered at once."""
    source, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        with suppress(TimeoutError):
            async with asyncio.timeout(PROMPT_SECONDS):
                return bool(await source.read(1))
        return False
    finally:
        writer.transport.abort()


# Whom a flood is to be from, and what for; who then waits for an answer, too, and who does not.
FLOODS: dict[str, tuple[bytes, bytes, bytes]] = {
    "without a key": (
        get(b"/download/1"), get(b"/download/1", as_("orc_false")), get(b"/download/1", as_("one")),
    ),
    "of what is public": (get(b"/"), get(b"/health"), get(b"/download/1", as_("one"))),
    "of what is not there": (get(b"/nowhere"), get(b"/else"), get(b"/download/1", as_("one"))),
    "of one caller": (
        get(b"/download/1", as_("two")), get(b"/download/1", as_("two")), get(b"/download/1", as_("one")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("limited", [True, False])
@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood(
    system: System, monkeypatch: pytest.MonkeyPatch, name: str, limited: bool
) -> None:
    """Without a key, over a hundred connections, it had uploads take seventeen times as long."""
    monkeypatch.setattr(unhurried, "AT_ONCE", 20)
    monkeypatch.setattr(unhurried, "PER_SECOND", 20.0)
    if not limited:
        monkeypatch.setattr(unhurried, "LONGEST_WAIT_SECONDS", 0.0)
    request, alike, other = FLOODS[name]
    answered = [0]
    transport: Any = system.rest._transport
    async with served(transport.app) as address:
        began = time.monotonic()
        floods = [
            asyncio.create_task(flood(address, request, answered)) for _ in range(CONNECTIONS)
        ]
        await asyncio.sleep(2)
        others = await prompt(address, other)
        own = await prompt(address, alike)
        seconds = time.monotonic() - began
        for task in floods:
            task.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
    most = unhurried.AT_ONCE + unhurried.PER_SECOND * (seconds + 1) + CONNECTIONS
    # What one caller may ask for is answered at once, whatever else it asks for.
    most += 20 * (seconds + 1) if "caller" in name else 0
    assert (answered[0] < most) is limited, answered
    if limited:
        assert others
        assert not own or "caller" in name


@pytest.mark.parametrize("asked", [False, True])
async def test_where_nobody_is_asked_nobody_waits(
    system: System, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    monkeypatch.setattr(unhurried, "AT_ONCE", 0)
    monkeypatch.setattr(unhurried, "PER_SECOND", 2.0)
    if not asked:
        object.__setattr__(system.context, "door", Door(IdentitySettings()))
    began = time.monotonic()
    for _ in range(4):
        assert (await system.rest.get("/nowhere")).status_code == 404
    assert (time.monotonic() - began > 1.4) is asked


@pytest.mark.parametrize(("weighed", "sent"), [(True, True), (True, False), (False, True)])
async def test_who_sends_large_bodies_for_nothing_is_answered_less_often(
    system: System, monkeypatch: pytest.MonkeyPatch, weighed: bool, sent: bool
) -> None:
    """Of 5 MB for each answer one caller had the machine receive a hundred megabytes a second."""
    monkeypatch.setattr(unhurried, "AT_ONCE", 0)
    monkeypatch.setattr(serving, "DISCARDED_BYTES_PER_SECOND", 1 << 40)
    if not weighed:
        monkeypatch.setattr(unhurried, "BYTES_OF_ONE", 1 << 40)
    transport: Any = system.rest._transport
    async with served(transport.app) as address:
        source, writer = await asyncio.open_connection(*address)
        writer.write(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n")
        assert b" 401 " in await source.readuntil()
        if sent:
            writer.write(bytes(5_000_000))
            await writer.drain()
            await asyncio.sleep(0.05)
        began = time.monotonic()
        assert (await system.rest.get("/nowhere")).status_code == 404
        assert (time.monotonic() - began > 0.2) is (weighed and sent)
        writer.close()


@pytest.mark.usefixtures("one_in_ten_seconds")
@pytest.mark.parametrize(
    ("limit", "most", "body", "waiting"),
    [
        ("MOST_WAITING", 3, b"", 3),
        ("MOST_BYTES", 3500, b"x" * 1000, 3),
        ("MOST_BYTES", 3500, b"", 6),
    ],
)
async def test_only_so_many_wait_and_others_have_to_come_again(
    system: System,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    most: int,
    body: bytes,
    waiting: int,
) -> None:
    """What has come of their bodies takes memory for as long as they wait."""
    monkeypatch.setattr(unhurried, limit, most)

    async def ask() -> Any:
        return await system.rest.post("/upload", content=body)

    assert (await ask()).headers.get("connection") is None
    tasks = [asyncio.create_task(ask()) for _ in range(6)]
    done, late = await asyncio.wait(tasks, timeout=1)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    found = [(one.result().status_code, one.result().headers.get("connection")) for one in done]
    assert found == [(401, "close")] * (6 - waiting)
    assert len(late) == waiting


@pytest.mark.usefixtures("one_in_ten_seconds")
async def test_a_flood_of_refusals_does_not_hold_up_a_look_at_health(system: System) -> None:
    await system.rest.get("/nowhere")
    refused = asyncio.create_task(system.rest.get("/nowhere"))
    async with asyncio.timeout(5):
        assert (await system.rest.get("/health")).status_code == 200
    assert not refused.done()
    refused.cancel()
    await asyncio.gather(refused, return_exceptions=True)
