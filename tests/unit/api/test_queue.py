"""`maxQueuedPerUser`: who has too many jobs waiting is turned away at the door."""

import asyncio
from typing import Any

from orchestrator_api.cache import Watched
from tests.support.builders import job_body, quota_body
from tests.support.system import System


async def put(system: System, watched: Watched[Any], body: dict[str, Any]) -> None:
    """Set an object, and return once the watch has told the API of it."""
    plural = "orchestratorjobs" if watched is system.context.jobs.live else "orchestratorquotas"
    name, version = body["metadata"]["name"], system.kube.put(plural, body)["metadata"]
    async with asyncio.timeout(5):
        while True:
            known = watched.items.get(name)
            if known and known.metadata.resource_version == version["resourceVersion"]:
                return
            await asyncio.sleep(0.005)


async def limit(system: System, name: str = "default", **spec: Any) -> None:
    body = quota_body(name, status={"inForce": spec}, **spec)
    await put(system, system.queue.quotas, body)


async def wait(system: System, *numbers: int, phase: str = "Queued", **more: Any) -> None:
    for number in numbers:
        body = job_body(f"job-{number}", phase=phase, **more)
        await put(system, system.context.jobs.live, body)


async def test_one_more_than_may_wait_is_turned_away_and_leaves_nothing(system: System) -> None:
    await limit(system, maxQueuedPerUser=2)
    await wait(system, 501, 502)
    answer = await system.upload()
    assert answer.status_code == 429
    assert answer.json() == {
        "id": 0,
        "status": "Unknown",
        "message": "User 1 has 2 jobs waiting, and quota default lets 2 wait at once. Upload again "
        "when one of them has started.",
    }
    assert answer.headers["Retry-After"] == "30"
    assert len(system.jobs()) == 2
    assert not system.s3.objects


async def test_who_waits_no_more_is_not_counted(system: System) -> None:
    await limit(system, maxQueuedPerUser=2)
    await wait(system, 501, 502)
    await wait(system, 501, phase="Submitted")
    assert (await system.upload()).status_code == 201


async def test_other_users_and_other_services_are_not_counted(system: System) -> None:
    await limit(system, maxQueuedPerUser=1, services=["example"])
    await wait(system, 501, user="2")
    await wait(system, 502, service="docking")
    assert (await system.upload()).status_code == 201


async def test_a_user_may_have_a_limit_of_their_own(system: System) -> None:
    await limit(system, maxQueuedPerUser=1, users={"1": {"maxQueued": 2}})
    await wait(system, 501)
    assert (await system.upload()).status_code == 201
    await limit(system, users={"1": {"maxQueued": 0}})
    assert (await system.upload()).status_code == 429


async def test_only_what_is_in_force_counts(system: System) -> None:
    body = quota_body(maxQueuedPerUser=0, status={"inForce": {"maxQueuedPerUser": 5}})
    await put(system, system.queue.quotas, body)
    assert (await system.upload()).status_code == 201
