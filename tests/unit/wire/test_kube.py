import asyncio

import pytest
from aiohttp import web
from kubernetes.aio import client

from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, resources_path, translate
from tests.support.builders import job_body
from tests.support.fake_kube import FakeKube

Pair = tuple[FakeKube, Kube]
JOBS = resources_path("jobs", "orchestratorjobs")


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (404, "NotFound", errors.NotFound),
        (410, "Expired", errors.NotFound),
        (401, "Unauthorized", errors.Temporary),
        (403, "Forbidden", errors.Permanent),
        (422, "Invalid", errors.Permanent),
        (429, "TooManyRequests", errors.Temporary),
        (500, "InternalError", errors.Temporary),
        (504, "Timeout", errors.Temporary),
    ],
)
def test_every_refusal_says_what_to_do(status: int, reason: str, kind: type[Exception]) -> None:
    error = translate(status, {"reason": reason, "message": "because"}, "GET /x")
    assert type(error) is kind
    assert "because" in str(error)


async def test_a_server_that_is_away_is_temporary() -> None:
    kube = Kube(client.Configuration(host="http://127.0.0.1:9"))
    with pytest.raises(errors.Temporary):
        await kube.request("GET", JOBS)
    await kube.close()


async def test_an_answer_that_is_no_json_is_an_error(cluster: Pair) -> None:
    state, kube = cluster
    state.before = lambda *_: web.Response(status=502, text="<html>bad gateway</html>")
    with pytest.raises(errors.Temporary, match="bad gateway"):
        await kube.request("GET", JOBS)


async def test_a_page_of_large_objects_holds_few_of_them(
    cluster: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator_wire.kube.LARGEST_PAGE", 50_000)
    state, kube = cluster
    names, large = [f"job-{n:02}" for n in range(60)], {f"job-{n}" for n in range(10, 20)}
    for name in names:
        spec = {"script": "x" * 20_000} if name in large else {}
        state.put("orchestratorjobs", job_body(name, spec=spec))
    pages = [[b["metadata"]["name"] for b in page] async for page, _ in kube.pages(JOBS)]
    assert [name for page in pages for name in page] == names
    assert max(len(large & set(page)) for page in pages) == 2
    # After them, more come at a time again.
    assert len(pages[-1]) > 2


async def test_an_object_larger_than_a_page_comes_all_the_same(
    cluster: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator_wire.kube.LARGEST_PAGE", 50_000)
    state, kube = cluster
    state.put("orchestratorjobs", job_body(spec={"script": "x" * 60_000}))
    assert [len(page) async for page, _ in kube.pages(JOBS)] == [1]


async def test_a_watch_tells_what_happens_after_the_list(cluster: Pair) -> None:
    state, kube = cluster
    state.put("orchestratorjobs", job_body("job-1"))
    items, version = await kube.list(JOBS)
    assert [i["metadata"]["name"] for i in items] == ["job-1"]
    seen: list[tuple[str, str]] = []

    async def follow() -> None:
        async for kind, body in kube.watch(JOBS, version):
            seen.append((kind, body["metadata"]["name"]))

    task = asyncio.create_task(follow())
    while not state.watchers:
        await asyncio.sleep(0.01)
    state.put("orchestratorjobs", job_body("job-2"))
    state.remove("orchestratorjobs", "job-1")
    while len(seen) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    assert seen == [("ADDED", "job-2"), ("DELETED", "job-1")]
