"""The whole API over fakes at the wire: real parsing, real HTTP to Kubernetes and to S3."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from orchestrator_api.app import create_app
from orchestrator_api.attempts import Attempts
from orchestrator_api.cache import Jobs, Services
from orchestrator_api.canary import Canary
from orchestrator_api.cluster import Cluster
from orchestrator_api.dependencies import Context
from orchestrator_api.gateway import create_gateway
from orchestrator_api.identity.door import Door
from orchestrator_api.identity.keyset import BadToken
from orchestrator_api.ids import Ids, highest_in_use
from orchestrator_api.operator import Operator
from orchestrator_api.queue import Queue
from orchestrator_api.submit import Submissions
from orchestrator_api.tokens import Caller
from orchestrator_api.wellness import Wellness
from orchestrator_wire.events import Events
from orchestrator_wire.kube import Kube
from orchestrator_wire.s3 import Store
from tests.support.builders import service_body
from tests.support.described import undescribed
from tests.support.fake_kube import FakeKube
from tests.support.fake_s3 import FakeS3


class PlainTokens:
    """Takes `Bearer POD/UID/JOB'S UID` for the token of that pod; real ones have their own tests.

    Without the last, it is that of the first job of its name.
    """

    async def verify(self, authorization: str) -> Caller:
        pod, uid, job_uid, *_ = [*authorization.removeprefix("Bearer ").split("/"), "", ""]
        if not uid:
            raise BadToken("There is no bearer token.")
        return Caller(pod, uid, "node-1", job_uid or f"uid-{pod.rpartition('-')[0]}")


@dataclass
class System:
    """The API, its gateway, and what is behind them."""

    kube: FakeKube
    s3: FakeS3
    rest: httpx2.AsyncClient
    gateway: httpx2.AsyncClient
    context: Context
    canary: Canary
    queue: Queue
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    async def upload(self, files: Any = None, **fields: Any) -> httpx2.Response:
        form = {"user_id": "1", "service": "example"} | fields
        data = {k: v for k, v in form.items() if v is not None}
        chosen = [("file", ("run.sh", b"echo hi\n"))] if files is None else files
        return await self.rest.post("/upload", data=data, files=chosen)

    def jobs(self) -> list[dict[str, Any]]:
        return [body for (kind, _), body in self.kube.objects.items() if kind == "orchestratorjobs"]


def client(app: Any) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://test")


async def _as_described(answer: httpx2.Response) -> None:
    await answer.aread()
    assert undescribed(answer) == []


HOSTS = ["portal.example.org"]


@asynccontextmanager
async def api_over(
    cluster: tuple[FakeKube, Kube], store: tuple[FakeS3, Store], door: Door
) -> AsyncIterator[System]:
    """Make an API over these, and let it see what is there."""
    state, kube = cluster
    s3_state, s3 = store
    state.put("orchestratorservices", service_body(inputs={"maxBytes": 100_000, "maxFiles": 3}))
    state.put(
        "leases", {"metadata": {"name": "orchestrator-operator"}, "spec": {"leaseTransitions": 1}}
    )
    jobs, services = Jobs(kube, s3, "jobs"), Services(kube, "jobs")
    access = Cluster(kube, "system", "jobs")
    queue = Queue(kube, "jobs", jobs.live)
    ids = Ids(kube, "system", lambda: highest_in_use(kube, s3, "jobs"))
    submissions = Submissions(s3, access, ids, services, queue, HOSTS)
    operator = Operator("127.0.0.1", 9)  # the discard port: nobody listens
    context = Context(s3, access, jobs, services, submissions, operator, door, Wellness(access, s3))
    canary = Canary(0)
    tokens: Any = PlainTokens()
    events = Events(kube, "jobs", "orchestrator-api")
    attempts = Attempts(access, s3, jobs, services, events)
    gateway = create_gateway(tokens, attempts, canary, lambda: True)
    rest, inside = client(create_app(context)), client(gateway)
    # Whatever a test is about, every answer that it gets must be one that the description tells of.
    rest.event_hooks["response"].append(_as_described)
    made = System(state, s3_state, rest, inside, context, canary, queue)
    made.tasks = [asyncio.create_task(w.run()) for w in (jobs.live, services.watched, queue.quotas)]
    while len(state.watchers) < len(made.tasks):
        await asyncio.sleep(0.005)
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    await made.rest.aclose()
    await made.gateway.aclose()
