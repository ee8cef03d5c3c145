"""The API as it is served in production, on a loopback port, in a thread, over fakes at the wire."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import md5, sha256
from typing import Any

import httpx2

from orchestrator_api.app import create_app
from orchestrator_api.identity.door import Door
from orchestrator_crds.record import record
from orchestrator_crds.service import Retention
from tests.support import loopback
from tests.support.builders import KEY, job_body, quota_body, service_body
from tests.support.fake_kube import FakeKube, fake_kube
from tests.support.fake_s3 import FakeS3, fake_s3
from tests.support.system import System, api_over

SERVICE = "fuzzed"
# So many jobs are there from the start, in every state that a job can be found in.
JOBS = 12
DATA = b"a zip"
_FOLDER = KEY.removesuffix("inputs.zip")


@dataclass
class Served:
    """Where the API listens, and what is behind it."""

    url: str
    kube: FakeKube
    s3: FakeS3
    loop: asyncio.AbstractEventLoop
    system: System

    def tell_gateway(self, path: str, body: bytes, token: str) -> httpx2.Response:
        """Send what an agent would; returns the gateway's answer."""
        headers = {"Authorization": f"Bearer {token}"}
        asked = self.system.gateway.post(path, content=body, headers=headers)
        return asyncio.run_coroutine_threadsafe(asked, self.loop).result(timeout=30)


def _stored(key: str, data: bytes = DATA) -> dict[str, Any]:
    etag = md5(data).hexdigest()  # noqa: S324  (what S3 uses)
    now = "2026-01-01T00:00:00Z"
    return {
        "key": key,
        "sizeBytes": 5,
        "sha256": sha256(data).hexdigest(),
        "etag": etag,
        "updatedAt": now,
    }


def _fill(kube: FakeKube, s3: FakeS3) -> None:
    kube.put("orchestratorservices", service_body(SERVICE))
    kube.put("orchestratorquotas", _quota())
    results, partial = _FOLDER + "results-1.zip", _FOLDER + "partial-1.zip"
    s3.objects |= {KEY: DATA, results: DATA, partial: DATA}
    live: list[dict[str, Any]] = [
        {"phase": "Queued"},
        {"phase": "Queued", "reason": "UserLimit", "message": "Wait."},
        {"phase": "Submitted", "attempt": 1},
        {"phase": "Running", "attempt": 1},
        {"phase": "Running", "attempt": 2, "snapshots": "OnRequest"},
        {"phase": "Queued", "spec": {"inputs": None, "script": "echo hi"}},
    ]
    inputs = {"inputs": {"key": KEY, "sizeBytes": 5, "sha256": sha256(DATA).hexdigest()}}
    for number, more in enumerate(live, 1):
        kube.put("orchestratorjobs", job_body(f"job-{number}", **{"spec": inputs, **more}))
    ended: list[dict[str, Any]] = [
        {"phase": "Completed", "results": _stored(results)},
        {"phase": "Completed", "results": _stored(results, b"another")},
        {"phase": "Completed", "results": _stored(_FOLDER + "gone.zip")},
        {"phase": "Failed", "message": "It ended with 3.", "results": _stored(results)},
        {"phase": "Invalid", "message": "It names no service."},
        {"phase": "Cleaned", "message": "Too old."},
    ]
    for number, more in enumerate(ended, len(live) + 1):
        body = job_body(f"job-{number}", spec=inputs, **more)
        s3.objects[f"records/{number}.json"] = record(body, Retention())


def _quota() -> dict[str, Any]:
    spec: dict[str, Any] = {"maxRunning": 1, "maxQueuedPerUser": 50}
    return quota_body(status={"inForce": spec}, **spec)


@contextmanager
def served(door: Door) -> Iterator[Served]:
    """Serve the API with this door while the block runs."""
    begun: Future[Served] = Future()
    over = asyncio.Event()

    async def run() -> None:
        async with fake_kube() as cluster, fake_s3() as store:
            _fill(cluster[0], store[0])
            async with (
                api_over(cluster, store, door) as system,
                loopback.served(create_app(system.context)) as (host, port),
            ):
                loop = asyncio.get_running_loop()
                url = f"http://{host}:{port}"
                begun.set_result(Served(url, cluster[0], store[0], loop, system))
                await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        found = begun.result(timeout=30)
        try:
            yield found
        finally:
            found.loop.call_soon_threadsafe(over.set)
    finally:
        thread.join()
