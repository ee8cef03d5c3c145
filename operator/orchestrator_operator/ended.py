"""What is done when a job leaves the live ones: a record if it has ended, a clean-up if it is gone.

Nothing of it is needed for the job's end to hold. What is missed, since the operator was down or
the store was: files are the sweep's, and without a record the job itself is asked until it expires.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from orchestrator_crds import OrchestratorJob, ServiceSpec
from orchestrator_crds.lean import parse_job
from orchestrator_crds.lifecycle import ENDED_SELECTOR, LIVE
from orchestrator_crds.record import is_expired
from orchestrator_crds.service import Retention
from orchestrator_operator.bundles import Bundles
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, resources_path

log = logging.getLogger(__name__)
PAUSE_SECONDS = 5.0
AT_ONCE = 8


class Ended:
    """Looks after jobs that are not live any more."""

    def __init__(
        self,
        bundles: Bundles,
        kube: Kube,
        namespace: str,
        service: Callable[[str], ServiceSpec | None],
        call_back: Callable[[OrchestratorJob], None],
    ) -> None:
        self._bundles, self._kube = bundles, kube
        self._jobs = resources_path(namespace, OrchestratorJob.plural)
        self._service, self._call_back = service, call_back
        self._chores: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def left(self, body: dict[str, Any]) -> None:
        """Take in, without waiting, that a job is live no more: it is over, or gone for good."""
        chore = asyncio.create_task(self._look(body))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _look(self, body: dict[str, Any]) -> None:
        """*body* is the job before it left; what became of it, a GET tells."""
        async with self._slots:
            try:
                found = await self._now(body)
                if found is None:
                    await self._bundles.forget(body)
                    return
                job = parse_job(found)
                if job.status.phase in LIVE or is_expired(job, time.time()):
                    return  # the sweep's record of it is the last word
                service = self._service(job.spec.service)
                await self._bundles.remember(found, service.retention if service else Retention())
            except (errors.ClusterError, errors.StoreError, KeyError, ValueError) as error:
                log.warning("An ended job is left to the sweep: %s", error)
                return
        if job.status.callback is not None and job.status.callback.state == "Pending":
            self._call_back(job)

    async def watch_deletions(self) -> None:
        """Wait for the deletion of jobs that are over, which the live watch does not see.

        Keeps nothing: it starts from now, and what it misses is the sweep's.
        """
        since = ""
        while True:
            try:
                since = since or await self._version()
                events = self._kube.watch(self._jobs, since, fieldSelector=ENDED_SELECTOR)
                async for kind, body in events:
                    since = str(body["metadata"]["resourceVersion"])
                    if kind == "DELETED":
                        await self._deleted(body)
            except (errors.ClusterError, KeyError) as error:
                log.info("Watching for deleted jobs begins anew: %s", error)
                # Too old a version is gone for good; after anything else it goes on where it was.
                since = "" if isinstance(error, errors.NotFound) else since
                await asyncio.sleep(PAUSE_SECONDS)

    async def _version(self) -> str:
        answer = await self._kube.request("GET", self._jobs, limit="1")
        return str(answer["metadata"]["resourceVersion"])

    async def _deleted(self, body: dict[str, Any]) -> None:
        try:
            # The sweep deletes what has expired, and keeps the record of it.
            expired = is_expired(OrchestratorJob.parse(body), time.time())
            if not expired and await self._now(body) is None:
                await self._bundles.forget(body)
        except (errors.ClusterError, errors.StoreError, KeyError, ValueError) as error:
            log.warning("Files of a deleted job are left to the sweep: %s", error)

    async def _now(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Return a job as it is now, or None when it is gone."""
        metadata = body["metadata"]
        try:
            found = await self._kube.request("GET", f"{self._jobs}/{metadata['name']}")
        except errors.NotFound:
            return None
        return found if found["metadata"]["uid"] == metadata["uid"] else None
