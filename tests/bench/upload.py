"""Small uploads a second beside the bare rate of creating the same resources, and CPU per gigabyte.

In turns, in one run, with as many at once:

- ours: POST /upload with a small run.sh and a small file, until the 201;
- the limit: POST of the very same OrchestratorJob to the Kubernetes API, by the same kind of client.

Nothing of it runs: the user's quota is shut. Then the CPU that the API's process spends on large
uploads and downloads, in seconds per GB (10^9 bytes).

Run it with `hack/python -m tests.bench.upload [ROUNDS]` while `hack/up` is up.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from local.cluster import kubectl
from local.paths import FRONT, JOBS_NAMESPACE, KUBECONFIG
from orchestrator_crds import OrchestratorJob
from orchestrator_crds.meta import API_VERSION
from orchestrator_wire.kube import Kube, resources_path
from tests.cluster.place import Place, cpu_seconds

ROUNDS, PER_ROUND, AT_ONCE = 5, 300, 16
LARGE, LARGE_BYTES = 4, 250_000_000
USER = "960"
FILES = {"run.sh": b"exit 0\n" * 20, "a.pdb": b"ATOM  " * 200}


async def rate(one: Callable[[int], Awaitable[None]]) -> float:
    """Return how many of *one* a second, AT_ONCE at a time."""
    left = iter(range(PER_ROUND))

    async def worker() -> None:
        for number in left:
            await one(number)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return PER_ROUND / (time.perf_counter() - started)


def form(files: dict[str, bytes], service: str) -> aiohttp.FormData:
    data = aiohttp.FormData({"user_id": USER, "service": service})
    for name, content in files.items():
        data.add_field("file", content, filename=name)
    return data


async def upload(session: aiohttp.ClientSession, files: dict[str, bytes], service: str) -> int:
    async with session.post(f"{FRONT}/upload", data=form(files, service)) as answer:
        body = await answer.json()
        assert answer.status == 201, body
        return int(body["id"])


async def small(rounds: int) -> dict[str, Any]:
    """Measure small uploads and bare creations in turns."""
    kube = await Kube.connect(str(KUBECONFIG))
    path = resources_path(JOBS_NAMESPACE, OrchestratorJob.plural)
    ours: list[float] = []
    limits: list[float] = []
    async with aiohttp.ClientSession() as session:

        async def one_upload(_: int) -> None:
            await upload(session, FILES, "example")

        number = await upload(session, FILES, "example")
        spec = (await kube.request("GET", f"{path}/job-{number}"))["spec"]
        # The API alone may name inputs; a script of their length takes their place.
        script = json.dumps(spec["inputs"])
        stamp = int(time.time())

        async def one_create(n: int) -> None:
            await kube.request("POST", path, {
                "apiVersion": API_VERSION, "kind": "OrchestratorJob",
                "metadata": {"name": f"bare-{stamp}-{len(limits)}-{n}"},
                "spec": {"service": "example", "userID": USER, "script": script},
            })  # fmt: skip

        for turn in range(rounds + 1):
            limit, own = await rate(one_create), await rate(one_upload)
            limits.append(limit)
            ours.append(own)
            if turn == 0:
                print("warmed up", file=sys.stderr)
    await kube.close()
    share = [own / limit for own, limit in zip(ours[1:], limits[1:], strict=True)]
    return {
        "bare creations a second": round(statistics.median(limits[1:])),
        "uploads a second": round(statistics.median(ours[1:])),
        "share": round(statistics.median(share), 2),
    }


async def large(place: Place) -> dict[str, Any]:
    """Measure the CPU of the API's process for large files up and down."""
    data = os.urandom(1_000_000) * (LARGE_BYTES // 1_000_000)
    volume = LARGE * LARGE_BYTES / 1e9
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session:
        before = cpu_seconds(place.pid("api"))
        numbers = [
            await upload(session, {"run.sh": b"x", "big": data}, "example") for _ in range(LARGE)
        ]
        up = cpu_seconds(place.pid("api")) - before
        before = cpu_seconds(place.pid("api"))
        for number in numbers:
            async with session.get(f"{FRONT}/download_partial/{number}") as answer:
                size = 0
                async for piece in answer.content.iter_chunked(1 << 20):
                    size += len(piece)
                assert size > LARGE_BYTES
        down = cpu_seconds(place.pid("api")) - before
    return {
        "API CPU, s/GB up": round(up / volume, 2),
        "API CPU, s/GB down": round(down / volume, 2),
    }


def main() -> None:
    """Measure, and print figures and their ratio as JSON."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    place = Place()
    place.apply("OrchestratorQuota", "bench", {"onlyUsers": [USER], "maxRunning": 0})
    try:
        found = asyncio.run(small(rounds)) | asyncio.run(large(place))
    finally:
        where = f"--namespace={JOBS_NAMESPACE}"
        kubectl(
            "delete",
            "orchestratorjobs",
            where,
            f"--field-selector=spec.userID={USER}",
            "--wait=false",
        )
        place.forget()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
