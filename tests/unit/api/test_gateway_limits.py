"""An agent that was taken and floods: it has its own share, and the agents of other jobs are served.

Each flood is also let loose with its limit lifted, and is felt there.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from orchestrator_api import gateway_serving, serving
from orchestrator_api.gateway import PROGRESS, REQUESTS
from orchestrator_api.gateway_serving import GatewayProtocol
from orchestrator_api.identity.rates import NO_LIMITS, Rates
from orchestrator_api.places import Places
from orchestrator_wire.uploads import SMALL_BYTES
from tests.support.builders import KEY, job_body
from tests.support.loopback import served
from tests.support.system import System

LARGE = 2 * SMALL_BYTES


def of(job: int) -> dict[str, str]:
    return {"Authorization": f"Bearer job-{job}-1/uid-{job}"}


@pytest.fixture
def running(system: System) -> System:
    """Jobs 1 to 5 are the attacker's, job 6 is somebody else's; all of them run."""
    for number in range(1, 7):
        pod = {"name": f"job-{number}-1", "uid": f"uid-{number}", "node": "n"}
        key = KEY.replace("0123", f"012{number}")
        inputs = {"key": key, "sizeBytes": LARGE, "sha256": "0" * 64}
        body = job_body(
            f"job-{number}", user="evil" if number < 6 else "honest", phase="Running", attempt=1,
            claim={"epoch": 1, "pool": "cpu"}, pod=pod, spec={"inputs": inputs},
        )  # fmt: skip
        system.kube.put("orchestratorjobs", body)
        system.s3.objects[key] = bytes(LARGE)
    return system


def state(system: System) -> Any:
    transport: Any = system.gateway._transport
    return transport.app.state


async def flood(system: System, times: int, method: str, path: str, **sent: Any) -> list[int]:
    answers = [
        await system.gateway.request(method, path, headers=of(1), **sent) for _ in range(times)
    ]
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "/start", {}),
        ("GET", "/inputs", {}),
        ("GET", "/snapshot-wanted", {}),
        ("PUT", "/snapshot", {"content": b"x"}),
        ("PUT", "/results", {"content": b"x"}),
        ("POST", "/end", {"content": b"junk"}),
    ],
)
async def test_requests_of_one_pod_are_counted(
    running: System, method: str, path: str, sent: dict[str, Any]
) -> None:
    state(running).requests = Rates(REQUESTS, lambda: 0.0)
    asked = len(running.kube.reads)
    statuses = await flood(running, 90, method, path, **sent)
    assert set(statuses[:60]) <= {200, 422}
    assert statuses[60:] == [429] * 30
    # What is refused costs Kubernetes nothing.
    assert len(running.kube.reads) - asked <= 2 * 60
    answer = await running.gateway.get("/inputs", headers=of(6))
    assert answer.status_code == 200


class Budget:
    """What all pods together may write, in this moment."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self) -> bool:
        self.left -= 1
        return self.left >= 0


@pytest.mark.parametrize("limited", [True, False])
async def test_progress_of_one_pod_leaves_room_for_that_of_others(
    running: System, limited: bool
) -> None:
    """All pods had one budget, of which one could take everything."""
    state(running).pace = Budget(8)
    state(running).progress = Rates(PROGRESS if limited else NO_LIMITS, lambda: 0.0)
    statuses = await flood(running, 20, "POST", "/progress", json={"text": "1/2"})
    assert statuses.count(204) == (5 if limited else 8)
    honest = await running.gateway.post("/progress", headers=of(6), json={"text": "3/4"})
    assert honest.status_code == (204 if limited else 429)


@pytest.mark.parametrize("limited", [True, False])
async def test_inputs_are_sent_to_a_pod_once_at_a_time(running: System, limited: bool) -> None:
    """Each holds one of the store's connections for as long as its reader likes."""
    if not limited:
        state(running).under_way = Forgetful()
    for key in running.s3.objects:
        running.s3.objects[key] = bytes(16_000_000)  # more than sockets keep
    app: Any = running.gateway._transport
    async with served(app.app, GatewayProtocol) as address, reader(address) as connect:
        for _ in range(3):
            await connect("GET", "/inputs", of(1))
        statuses = [await connect("GET", "/inputs", of(1)), await connect("GET", "/inputs", of(6))]
    assert statuses == ([429, 200] if limited else [200, 200])
    # Once sent, or given up, it may be asked for again.
    assert not state(running).under_way
    assert (await running.gateway.get("/inputs", headers=of(1))).status_code == 200


class Forgetful(set[str]):
    """Holds nothing."""

    def add(self, _: str) -> None:
        pass

    def remove(self, _: str) -> None:
        pass


class reader:  # noqa: N801  (used as a function is)
    """Gives a function that asks, reads the first line alone, and holds the connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Callable[..., Any]:
        return self._ask

    async def _ask(self, method: str, path: str, headers: dict[str, str]) -> int:
        # A small buffer, so that most of the answer stays on the other side.
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self._address)
        source, writer = await asyncio.open_connection(sock=sock, limit=1024)
        self._writers.append(writer)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        return int((await source.readline()).split()[1])

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("path", ["/results", "/snapshot"])
@pytest.mark.parametrize("limited", [True, False])
async def test_jobs_of_one_user_do_not_hold_all_places(
    running: System, path: str, limited: bool
) -> None:
    """Bodies that drip took all places there are, and the results of all others waited."""
    which = "result_places" if path == "/results" else "snapshot_places"
    places = Places(4)
    if not limited:
        places._most_of_caller = places._most_of_unnamed = 4
    setattr(state(running), which, places)
    over = asyncio.Event()

    async def drips() -> AsyncIterator[bytes]:
        yield bytes(LARGE)
        await over.wait()

    evil = [
        asyncio.create_task(running.gateway.put(path, headers=of(number), content=drips()))
        for number in range(1, 6)
    ]
    await asyncio.sleep(0.2)
    content = bytes(LARGE)
    honest = asyncio.create_task(running.gateway.put(path, headers=of(6), content=content))
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(honest), 1)
    assert honest.done() is limited
    over.set()
    assert {(await task).status_code for task in [*evil, honest]} == {200}


@pytest.mark.parametrize("limited", [True, False])
async def test_connections_of_one_address_do_not_keep_others_out(
    running: System, monkeypatch: pytest.MonkeyPatch, limited: bool
) -> None:
    """Any job could open as many as there may be; even the kubelet's probes were answered 503."""
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 20)
    monkeypatch.setattr(gateway_serving, "MOST_OF_ONE", 10 if limited else 1000)
    app: Any = running.gateway._transport
    async with served(app.app, GatewayProtocol) as (host, port):
        held = [await asyncio.open_connection(host, port) for _ in range(30)]
        await asyncio.sleep(0.1)
        assert sum(not source.at_eof() for source, _ in held) == (10 if limited else 30)
        transport = httpx2.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx2.AsyncClient(transport=transport) as other:
            probe = await other.get(f"http://{host}:{port}/livez")
        assert probe.status_code == (200 if limited else 503)
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.1)
        # Whoever lets go of some may come again.
        again = await other_get(f"http://{host}:{port}/livez")
        assert again == 200


@pytest.mark.parametrize("limited", [True, False])
async def test_requests_of_one_address_are_few_whoever_they_say_they_are(
    running: System, monkeypatch: pytest.MonkeyPatch, limited: bool
) -> None:
    """A run.sh has its agent's address, and could keep the loop busy without any token."""
    monkeypatch.setattr(gateway_serving, "ONES_REQUESTS_PER_SECOND", 50.0 if limited else 1e6)
    app: Any = running.gateway._transport
    answered = [0]
    async with served(app.app, GatewayProtocol) as (host, port):

        async def flood_it(request: bytes) -> None:
            while True:
                source, writer = await asyncio.open_connection(host, port)
                try:
                    while not source.at_eof():
                        writer.write(request)
                        answered[0] += (await source.read(1 << 16)).count(b"HTTP/1.1 200 ")
                except OSError:
                    pass
                finally:
                    writer.transport.abort()

        request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        tasks = [asyncio.create_task(flood_it(request * many)) for many in (1, 1, 1, 30)]
        began = time.monotonic()
        await asyncio.sleep(2)
        transport = httpx2.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx2.AsyncClient(transport=transport) as other:
            assert (await other.get(f"http://{host}:{port}/livez")).status_code == 200
        seconds = time.monotonic() - began
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # So many at once, so many a second, and as many as it may be ahead.
    assert (answered[0] <= 200 + 50 * (seconds + 2) + 10) is limited, answered


@pytest.mark.parametrize("ahead", [True, False])
async def test_requests_ahead_of_their_answers_are_not_taken(
    running: System, monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    """Read all at once, they were ten times as many in a second as were meant to be."""
    monkeypatch.setattr(GatewayProtocol, "takes_ahead", ahead)
    app: Any = running.gateway._transport
    answered = 0
    async with served(app.app, GatewayProtocol) as (host, port):
        for _ in range(10):
            source, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 60)
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(1):
                    while data := await source.read(1 << 16):
                        answered += data.count(b"HTTP/1.1 200 ")
            writer.transport.abort()
    assert answered == (600 if ahead else 0)


@pytest.mark.parametrize("early", [True, False])
async def test_who_asks_too_often_has_no_body_piled_up(early: bool) -> None:
    """What made it wait had its body read on, though nobody took it."""
    taken = asyncio.Event()

    async def app(scope: Any, _: Any, send: Any) -> None:
        if scope["method"] == "PUT":
            await taken.wait()
        length = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"{}"})

    async with served(app, GatewayProtocol) as (host, port):

        async def ask() -> None:
            source, writer = await asyncio.open_connection(host, port)
            try:
                while True:
                    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    await source.readuntil(b"{}")
            finally:
                writer.transport.abort()

        asking = asyncio.create_task(ask())
        _, writer = await asyncio.open_connection(host, port)
        await asyncio.sleep(0.5)  # it is too early by now
        if not early:
            asking.cancel()
            await asyncio.sleep(0.5)
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        sent = 0
        with suppress(TimeoutError):
            while sent < 100_000_000:
                writer.write(bytes(100_000))
                await asyncio.wait_for(writer.drain(), 1.5)
                sent += 100_000
        # What sockets keep, and no more.
        assert sent < 10_000_000
        writer.transport.abort()
        taken.set()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def other_get(url: str) -> int:
    async with httpx2.AsyncClient() as client:
        return (await client.get(url)).status_code


async def test_a_body_without_a_token_is_not_read_on(running: System) -> None:
    """Any job could have the gateway read, and throw away, as much as it could send."""
    app: Any = running.gateway._transport
    sent = {}
    async with served(app.app, GatewayProtocol) as (host, port):
        for name, more in (("none", {}), ("a taken agent's", of(1))):
            source, writer = await asyncio.open_connection(host, port)
            lines = "".join(f"{key}: {value}\r\n" for key, value in more.items())
            head = f"POST /end HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: 1000000000\r\n\r\n"
            writer.write(head.encode())
            sent[name] = 0
            with suppress(OSError):
                while sent[name] < 100_000_000:
                    writer.write(bytes(1_000_000))
                    await writer.drain()
                    sent[name] += 1_000_000
            status = (await source.readline()).split()[1:2] if name != "none" else [b"401"]
            assert status == [b"401" if name == "none" else b"413"]
            writer.transport.abort()
    assert sent["none"] < 20_000_000 < sent["a taken agent's"]
