"""What a hostile request costs: no more of the processor than an honest one, and never all at once.

Against honest uploads in the same run, and by the time that the server's thread has had the processor:
what else this machine does is not in it.
"""

import asyncio
import gc
import gzip
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from multipart import parse_options_header

from orchestrator_api import files, serving
from orchestrator_api import upload as parsing
from tests.support import costly
from tests.support.builders import service_body
from tests.support.costly import Cost, Pieces, cost, parts, upload
from tests.support.loopback import served
from tests.support.raw import FLOODS, LAST, MEGABYTE, ON_THE_WAY, REQUESTS, Address, endless, steps
from tests.support.system import System
from tests.unit.api.test_jobs import complete

# How many times what an honest upload of as many bytes costs: the processor itself is twice as fast at
# one time as at another.
FACTOR = 30
LARGE = 8 * MEGABYTE
TRIES = 3


@dataclass(frozen=True)
class Honest:
    """What an honest upload costs that is small, and one of LARGE bytes."""

    small: float
    large: float

    def of(self, size: int) -> float:
        return self.small + self.large * size / LARGE

    def broken(self, found: Cost, size: int) -> bool:
        """Return whether that was too much for *size* bytes, or took all others' time for too long."""
        return found.seconds > FACTOR * self.of(size) or found.standstill > self.large


@pytest.fixture
async def address(system: System) -> AsyncIterator[Address]:
    limits = {"maxBytes": 64 * MEGABYTE, "maxFiles": 1000}
    system.kube.put("orchestratorservices", service_body(inputs=limits))
    while system.context.services.largest_upload < limits["maxBytes"]:
        await asyncio.sleep(0.005)
    await complete(system)
    transport: Any = system.rest._transport
    async with served(transport.app) as found:
        yield found


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Have nobody else's garbage collected by the server, nor refused bodies read slowly."""
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "DISCARDED_BYTES_PER_SECOND", 1 << 40)
        yield
    gc.unfreeze()


@pytest.fixture
async def honest(address: Address) -> Honest:
    async def least(size: int) -> float:
        found = []
        for _ in range(TRIES):
            spent, status, _ = await cost(address, upload(size))
            assert status == 201
            found.append(spent.seconds)
        return min(found)

    for pieces in (upload(0), costly.download(b"")):
        await cost(address, pieces)  # what is made the first time
    return Honest(await least(0), await least(LARGE))


async def excess(
    address: Address, honest: Honest, make: Callable[[], Pieces], *, on: bool = False
) -> tuple[str, int | None]:
    """Return what is too much of a request's cost, if it is so each time, and the answer's status."""
    told, status = [], None
    for _ in range(TRIES):
        spent, status, sent = await cost(address, make(), on=on)
        if not honest.broken(spent, sent):
            return "", status
        told.append(f"{spent} for {sent} bytes")
    return "; ".join(told), status


async def test_no_request_costs_much_more_than_an_honest_one_of_its_size(
    address: Address, honest: Honest
) -> None:
    found = {}
    for name, (make, expected) in costly.REQUESTS.items():
        told, status = await excess(address, honest, make)
        found[name] = (told, expected if expected is None and status in {400, 404} else status)
    assert found == {name: ("", status) for name, (_, status) in costly.REQUESTS.items()}, honest


async def test_nor_does_one_that_is_none_or_has_no_end(address: Address, honest: Honest) -> None:
    for name, (raw, _) in REQUESTS.items():
        assert (await excess(address, honest, partial(steps, [raw + LAST], 1000)))[0] == "", name
    for name, (first, more, _, most) in FLOODS.items():
        flood = partial(endless, first, more, most + ON_THE_WAY)
        assert (await excess(address, honest, flood, on=True))[0] == "", name


async def test_without_a_limit_of_parts_one_would(
    address: Address, honest: Honest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsing, "MAX_FILES", costly.MILLION)
    told, _ = await excess(address, honest, partial(parts, 8000))
    assert told


def looks_back(header: str) -> Any:
    # All of it would take for ever.
    re.compile(r'"(\\.|[^"])*"').search(header[:60])
    return parse_options_header(header)


def each_with_each(header: str, _: int) -> None:
    asked = header.split(",")[:3000]  # all of them would take for ever
    assert sum(one == other for one in asked for other in asked) > 0


async def unpacked(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield gzip.decompress(b"".join([data async for data in body]))


@pytest.mark.parametrize(
    ("name", "where", "what", "careless"),
    [
        ("a type with backslashes", parsing, "parse_options_header", looks_back),
        ("twenty thousand ranges", files, "one_range", each_with_each),
        ("a packed form", parsing, "blocks", unpacked),
    ],
)
async def test_who_reads_carelessly_would_stand_in_everybodys_way(
    address: Address,
    honest: Honest,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    where: ModuleType,
    what: str,
    careless: object,
) -> None:
    make = costly.REQUESTS[name][0]
    assert not (await excess(address, honest, make))[0]
    monkeypatch.setattr(where, what, careless)
    assert (await excess(address, honest, make))[0]


async def test_parts_that_come_at_once_are_taken_one_by_one(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of them stood in everybody's way for a tenth of a second."""

    async def standstills() -> list[float]:
        make, _ = costly.REQUESTS["parts with pairs"]
        return [(await cost(address, make()))[0].standstill for _ in range(TRIES)]

    async def go_on(_: float) -> None:
        pass

    taken = min(await standstills())
    monkeypatch.setattr(parsing, "asyncio", SimpleNamespace(sleep=go_on))
    # How many of them come at once is also the network's to say.
    assert max(await standstills()) > 4 * taken
