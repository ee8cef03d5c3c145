"""Callbacks, delivered to a real server on loopback."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook

from orchestrator_crds import OrchestratorJob
from orchestrator_crds.callback import allowed, key_of
from orchestrator_operator import callbacks as callbacks_of
from orchestrator_operator.addresses import Resolver
from orchestrator_operator.callbacks import Callbacks
from orchestrator_operator.cluster.lease import Lease
from orchestrator_operator.cluster.writes import Writer
from orchestrator_wire.kube import Kube
from tests.support.builders import job_body
from tests.support.fake_kube import FakeKube
from tests.support.loopback import listening

JOBS = "orchestratorjobs"
SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"


class Portal:
    """Keeps what it is told, and answers as the test says."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Location": f"{self.url}/elsewhere"})


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    state = Portal()
    app = web.Application()
    app.router.add_post("/{path:.*}", state.handle)
    async with listening(app) as endpoint:
        state.url = f"http://{endpoint}"
        yield state


async def callbacks_to(kube: Kube, *hosts: str, **more: Any) -> Callbacks:
    lease = Lease(kube, "system", "me", seconds=15)
    await lease.acquire()
    return Callbacks(kube, Writer(kube, lease, "jobs"), "jobs", hosts, key_of(SECRET), **more)


@pytest.fixture
async def callbacks(cluster: tuple[FakeKube, Kube], portal: Portal) -> AsyncIterator[Callbacks]:
    made = await callbacks_to(cluster[1], portal.url, pauses=(0.01, 0.01))
    yield made
    await made.close()


def ended(state: FakeKube, url: str, number: int = 1, **callback: Any) -> OrchestratorJob:
    at = "2026-01-01T00:00:00Z"
    body = job_body(
        f"job-{number}", phase="Failed", reason="NonZeroExit", message="no", exitCode=3, finishedAt=at,
        callback={"url": url, "state": "Pending", "attempts": 0, "updatedAt": at, **callback},
    )  # fmt: skip
    return OrchestratorJob.parse(state.put(JOBS, body))


async def settled(state: FakeKube) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = state.get(JOBS, "job-1")["status"]["callback"]
        if found["state"] != "Pending":
            return found
        await asyncio.sleep(0.005)


async def test_the_end_is_told_signed(
    callbacks: Callbacks, cluster: tuple[FakeKube, Kube], portal: Portal
) -> None:
    callbacks.add(ended(cluster[0], f"{portal.url}/job?key=1"))
    assert (await settled(cluster[0]))["state"] == "Delivered"
    [(headers, body)] = portal.got
    # As a portal would check it, with the standard's own library.
    found = Webhook(SECRET).verify(body, {k.lower(): v for k, v in headers.items()})
    assert found["data"] == {
        "id": 1, "name": "job-1", "service": "example", "userID": "1", "status": "Failed",
        "reason": "NonZeroExit", "message": "no", "exitCode": 3,
    }  # fmt: skip
    assert json.loads(body)["type"] == "job.ended"


async def test_a_portal_that_fails_is_told_again_under_the_same_id(
    callbacks: Callbacks, cluster: tuple[FakeKube, Kube], portal: Portal
) -> None:
    portal.answers = [500, 503]
    callbacks.add(ended(cluster[0], portal.url))
    found = await settled(cluster[0])
    assert (found["state"], found["attempts"]) == ("Delivered", 3)
    assert len({headers["webhook-id"] for headers, _ in portal.got}) == 1


async def test_a_portal_that_always_fails_is_given_up(
    callbacks: Callbacks, cluster: tuple[FakeKube, Kube], portal: Portal
) -> None:
    portal.answers = [500] * 9
    callbacks.add(ended(cluster[0], portal.url))
    found = await settled(cluster[0])
    assert (found["state"], found["attempts"]) == ("Failed", 3)
    assert found["message"] == "It answered 500."


async def test_a_redirect_is_not_followed(
    callbacks: Callbacks, cluster: tuple[FakeKube, Kube], portal: Portal
) -> None:
    portal.answers = [302] * 9
    callbacks.add(ended(cluster[0], portal.url))
    assert (await settled(cluster[0]))["state"] == "Failed"
    assert len(portal.got) == 3


async def test_a_host_that_is_not_allowed_is_not_called(
    callbacks: Callbacks, cluster: tuple[FakeKube, Kube], portal: Portal
) -> None:
    callbacks.add(ended(cluster[0], portal.url.replace("127.0.0.1", "127.0.0.2")))
    assert (await settled(cluster[0]))["state"] == "Refused"
    assert portal.got == []


@pytest.mark.parametrize("fair", [True, False])
async def test_a_host_that_hangs_keeps_no_other_from_being_told(
    cluster: tuple[FakeKube, Kube], portal: Portal, monkeypatch: pytest.MonkeyPatch, fair: bool
) -> None:
    if not fair:
        monkeypatch.setattr(callbacks_of, "TO_ONE_HOST", callbacks_of.AT_ONCE)
    # The kernel takes connections, and nobody ever answers.
    with socket.create_server(("127.0.0.1", 0), backlog=100) as hanging:
        hung = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        made = await callbacks_to(cluster[1], portal.url, hung)
        try:
            for number in range(2, 40):
                made.add(ended(cluster[0], hung, number))
            await asyncio.sleep(0.1)
            made.add(ended(cluster[0], portal.url))
            async with asyncio.timeout(2 if fair else 0.5):
                assert (await settled(cluster[0]))["state"] == "Delivered"
            assert fair
        except TimeoutError:
            assert not fair
        finally:
            await made.close()


async def test_what_was_undelivered_is_taken_up_where_it_was(
    callbacks: Callbacks, cluster: tuple[FakeKube, Kube], portal: Portal
) -> None:
    ended(cluster[0], portal.url, attempts=2)
    portal.answers = [500]
    await callbacks.take_up()
    found = await settled(cluster[0])
    assert (found["state"], found["attempts"]) == ("Failed", 3)


@pytest.mark.parametrize(
    ("url", "hosts", "expected"),
    [
        ("https://portal.example.org/x", ["portal.example.org"], True),
        ("https://PORTAL.example.org:443/x", ["portal.example.org"], True),
        ("https://a.b.example.org", ["*.example.org"], True),
        ("https://portal.example.org:8443/", ["portal.example.org:8443"], True),
        ("http://portal:8080/x", ["http://portal:8080"], True),
        ("https://example.org", ["*.example.org"], False),
        ("https://evilexample.org", ["*.example.org"], False),
        ("https://portal.example.org:8443/", ["portal.example.org"], False),
        ("http://portal.example.org/", ["portal.example.org"], False),
        ("https://portal.example.org@evil.org/", ["portal.example.org"], False),
        ("https://evil.org/#portal.example.org", ["portal.example.org"], False),
        ("https://evil.org\\@portal.example.org/", ["portal.example.org"], False),
        ("gopher://portal.example.org/", ["portal.example.org"], False),
        ("https://portal.example.org:99999/", ["portal.example.org"], False),
        ("https://[::1]/", ["portal.example.org"], False),
        # Other spellings of addresses near us, and of names that are allowed.
        *(
            (f"{scheme}://{host}/", ["portal.example.org", "*.example.org"], False)
            for scheme in ("http", "https")
            for host in (
                "127.0.0.1",
                "127.1",
                "2130706433",
                "0x7f000001",
                "0177.0.0.1",
                "0.0.0.0",
                "localhost",
                "169.254.169.254",
                "10.96.0.1",
                "kubernetes.default.svc",
                "[::]",
                "[::ffff:127.0.0.1]",
                "[::ffff:a9fe:a9fe]",
                "[64:ff9b::7f00:1]",
                "[fe80::1%25eth0]",
                "portal.example.org.",
                "portal.example.org.evil.org",
                "portal.example.org%2eevil.org",
                "portal.example.org%00.evil.org",
                "portal\u3002example.org",
                "portal.example\u00adorg",
                "\u24df\u24de\u24e1\u24e3\u24d0\u24db.example.org.evil",
                "evil.org:80#.example.org",
                "evil.org?.example.org",
                "evil.org\\.example.org",
                "evil.org\r\nHost:x.example.org",
                "user@portal.example.org",
                "user:word@portal.example.org",
                "@portal.example.org",
                "evil.org%40portal.example.org:80x",
            )
        ),
        *(
            (f"{scheme}://portal.example.org/", ["portal.example.org"], False)
            for scheme in (
                "gopher",
                "file",
                "ftp",
                "dict",
                "ldap",
                "javascript",
                "//http",
                "https:http",
            )
        ),
        ("", ["portal.example.org"], False),
        # What the cluster would not take in a job.
        ("HTTPS://portal.example.org/", ["portal.example.org"], False),
        ("https://portal.example.org/#x", ["portal.example.org"], False),
        ("https://portal.example.org/a b", ["portal.example.org"], False),
        ("https://portal.example.org/" + "x" * 2048, ["portal.example.org"], False),
        ("https://portal.example.org/", [], False),
    ],
)
def test_which_urls_are_allowed(url: str, hosts: list[str], expected: bool) -> None:
    assert allowed(url, hosts) == expected


class Lookup(AbstractResolver):
    """Answers each question with the next address, as a name server of an attacker does."""

    def __init__(self, *addresses: str) -> None:
        self.addresses, self.asked = list(addresses), 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=6, flags=0)
        ]

    async def close(self) -> None:
        pass


# Address: whether a name that the administrator wrote may lead there, and one of a pattern.
NEAR = {
    "127.0.0.1": (False, False), "127.8.8.8": (False, False), "0.0.0.0": (False, False),
    "169.254.169.254": (False, False), "224.0.0.1": (False, False), "255.255.255.255": (True, False),
    "10.96.0.1": (True, False), "172.16.0.1": (True, False), "192.168.1.1": (True, False),
    "100.64.0.1": (True, False), "93.184.216.34": (True, True),
    "::1": (False, False), "::": (False, False), "fe80::1": (False, False), "fe80::1%eth0": (False, False),
    "ff02::1": (False, False), "fd00:ec2::254": (True, False), "2606:2800:220:1::1": (True, True),
    "::ffff:127.0.0.1": (False, False), "::ffff:169.254.169.254": (False, False),
    "::ffff:10.0.0.1": (True, False), "64:ff9b::7f00:1": (False, False), "64:ff9b::a00:1": (True, False),
    "2002:7f00:1::": (False, False), "::127.0.0.1": (False, False), "::ffff:93.184.216.34": (True, True),
}  # fmt: skip


@pytest.mark.parametrize("address", NEAR)
async def test_where_names_may_lead(address: str) -> None:
    found = []
    for host in ("portal.example.org", "any.example.net"):
        resolver = Resolver(["portal.example.org", "*.example.net"], Lookup(address))
        try:
            found.append(bool(await resolver.resolve(host)))
        except OSError:
            found.append(False)
    assert tuple(found) == NEAR[address]


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_name_that_leads_here_once_it_was_looked_at_reaches_nobody(
    cluster: tuple[FakeKube, Kube], portal: Portal, guarded: bool
) -> None:
    """A name server that answers first with an honest address, and then with one of ours."""
    port = portal.url.rpartition(":")[2]
    hosts = [f"http://*.example.net:{port}"]
    lookup = Lookup("127.0.0.1")
    resolver = Resolver(hosts, lookup) if guarded else lookup
    made = await callbacks_to(cluster[1], *hosts, pauses=(), resolver=resolver)
    try:
        made.add(ended(cluster[0], f"http://rebound.example.net:{port}/"))
        found = await settled(cluster[0])
    finally:
        await made.close()
    assert bool(portal.got) != guarded
    assert found["state"] == ("Failed" if guarded else "Delivered")
    assert lookup.asked == 1
