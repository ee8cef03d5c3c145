"""Polls of a live job: how many a second, and how many requests to Kubernetes they cost.

The limit is `GET /`, which does nothing at all, in the same run by the same client. The requests are
counted from the API server's audit log, and must be none.

Run it with `hack/python -m tests.bench.poll` while `hack/up` is up.
"""

import asyncio
import json
import time

import aiohttp

from local.paths import FRONT
from tests.cluster.place import Place

POLLS, AT_ONCE = 4000, 16
USER = 961


async def rate(path: str) -> float:
    """Return answers a second of GET *path*."""
    left = iter(range(POLLS))
    async with aiohttp.ClientSession() as session:

        async def worker() -> None:
            for _ in left:
                async with session.get(f"{FRONT}{path}") as answer:
                    assert answer.status == 200
                    await answer.read()

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        return POLLS / (time.perf_counter() - started)


def main() -> None:
    """Measure, and print as JSON."""
    place = Place()
    place.apply("OrchestratorQuota", "bench", {"onlyUsers": [str(USER)], "maxRunning": 0})
    try:
        number = place.upload("true", user=USER)
        place.status(number)
        time.sleep(2)
        before = len(place.asked("get", "list", of=""))
        limit, polls = asyncio.run(rate("/")), asyncio.run(rate(f"/download/{number}"))
        time.sleep(1)
        asked = place.asked("get", "list", of="")[before:]
        print(json.dumps({
            "pings a second": round(limit), "polls a second": round(polls),
            "share": round(polls / limit, 2), "polls": POLLS,
            "requests to Kubernetes": sum("orchestrator-api" in a["user"] for a in asked),
        }, indent=2))  # fmt: skip
    finally:
        place.forget()


if __name__ == "__main__":
    main()
