"""The sweep: jobs whose time is over, files that no job has, jobs whose files are gone.

It looks at everything, a page at a time; what it keeps while it runs is the names of the folders.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator_crds import (
    OrchestratorJob,
    OrchestratorService,
    Phase,
    ServiceSpec,
    transitions,
)
from orchestrator_crds.lifecycle import Reason
from orchestrator_crds.outcome import Outcome
from orchestrator_crds.record import cleaned
from orchestrator_crds.service import Retention
from orchestrator_operator.bundles import Bundles, folder_of
from orchestrator_operator.cluster.lease import Deposed
from orchestrator_operator.cluster.writes import Writer
from orchestrator_operator.core.retention import Fate, Stock, fate
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, now, resources_path

log = logging.getLogger(__name__)
Services = Mapping[str, OrchestratorService]
DAY_SECONDS = 86400.0


class Sweep:
    """Deletes what is to go, and marks what is lost."""

    def __init__(
        self,
        bundles: Bundles,
        kube: Kube,
        writer: Writer,
        namespace: str,
        services: Callable[[], Services],
    ) -> None:
        self._bundles, self._kube, self._writer = bundles, kube, writer
        self._jobs = resources_path(namespace, OrchestratorJob.plural)
        self._services = services
        self._daily_at = 0.0

    async def forever(self, seconds: float) -> None:
        """Sweep every so often."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.once()
            except (errors.ClusterError, errors.StoreError) as error:
                log.warning("The sweep did not end, and is tried again later: %s", error)

    async def once(self) -> None:
        """Sweep; raises ClusterError, StoreError or Deposed."""
        # Folders are listed before jobs: what is made meanwhile is not on the first list.
        listed_at = time.time()
        every, old = await self._bundles.folders()
        stock = Stock(every, listed_at)
        orphans, due = old, list[str]()
        # Nothing is done while it lists, since a list that takes minutes is broken off.
        async for bodies, _ in self._kube.pages(self._jobs):
            for body in bodies:
                orphans -= _folders(body)
                if _fate(body, stock) is not Fate.KEEP:
                    due.append(body["metadata"]["name"])
        for name in due:
            await self._one(name, stock)
        for folder in orphans:
            await self._bundles.empty(folder)
        if orphans:
            log.info("Swept %d folders that belonged to no job.", len(orphans))
        if time.time() - self._daily_at > DAY_SECONDS:
            await self._daily()

    async def _daily(self) -> None:
        try:
            await self._bundles.abandon_uploads()
        except errors.StoreError as error:
            # It may not be ours to list them; that is no reason to keep records for ever.
            log.warning("Unfinished uploads are left to the object store itself: %s", error)
        shortest = min(
            (s.spec.retention.record_seconds for s in self._services().values()),
            default=Retention().record_seconds,
        )
        await self._bundles.drop_old_records(shortest, time.time())
        self._daily_at = time.time()

    async def _one(self, name: str, stock: Stock) -> None:
        try:
            body = await self._writer.read_job(name)
            job = OrchestratorJob.parse(body)
            match fate(job, stock, time.time()):
                case Fate.EXPIRE:
                    await self._expire(job, body)
                case Fate.RESULTS_LOST:
                    await self._mark(job, transitions.lost(job, now=now()))
                case Fate.INPUTS_LOST:
                    message = "The uploaded files are not in the file store. Submit the job again."
                    outcome = Outcome(Phase.INVALID, Reason.INPUTS_MISSING, message)
                    service = self._service(job)
                    await self._mark(job, transitions.finish(job, outcome, service, now=now()))
                case Fate.KEEP:
                    pass
        except Deposed:
            raise
        except errors.NotFound:
            return  # somebody deleted it meanwhile
        except (errors.ClusterError, errors.StoreError, ValueError) as error:
            log.warning("%s is left to the next sweep: %s", name, error)

    async def _expire(self, job: OrchestratorJob, body: dict[str, Any]) -> None:
        """Let a job go: the record first, so that it can be asked about at every moment."""
        await self._bundles.remember(cleaned(body, now()), self._retention(job))
        await self._bundles.empty(job.folder)
        await self._writer.delete_job(job)

    async def _mark(self, job: OrchestratorJob, status: dict[str, Any]) -> None:
        body = await self._writer.patch_job(job, status)
        if job.status.phase is not Phase.QUEUED:
            await self._bundles.remember(body, self._retention(job))

    def _service(self, job: OrchestratorJob) -> ServiceSpec | None:
        found = self._services().get(job.spec.service)
        return found.spec if found else None

    def _retention(self, job: OrchestratorJob) -> Retention:
        service = self._service(job)
        return service.retention if service else Retention()


def _fate(body: dict[str, Any], stock: Stock) -> Fate:
    try:
        return fate(OrchestratorJob.parse(body), stock, time.time())
    except ValueError as error:
        name = body["metadata"].get("name")
        log.warning("%s cannot be read, and is left alone: %.1000s", name, error)
        return Fate.KEEP


def _folders(body: dict[str, Any]) -> set[str]:
    """Return the folders that a job may have; of a job that cannot be read, any it might."""
    key = str(((body.get("spec") or {}).get("inputs") or {}).get("key", ""))
    return {folder_of(key), str(body["metadata"]["uid"])}
