"""All object-store I/O of the operator: taking away what belongs to no job any more."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator_crds import OrchestratorJob
from orchestrator_crds.lifecycle import ENDED_SELECTOR
from orchestrator_crds.names import JOBS_PREFIX, folder_of_key
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, resources_path
from orchestrator_wire.s3 import Store

log = logging.getLogger(__name__)
# An upload's object is there before its job is; younger objects are never swept.
SPARED = timedelta(hours=1)
PAUSE_SECONDS = 5.0


class Bundles:
    """Deletes the objects of deleted jobs: at once when it sees the deletion, else by the sweep."""

    def __init__(self, store: Store, kube: Kube, namespace: str) -> None:
        self._store, self._kube = store, kube
        self._jobs = resources_path(namespace, OrchestratorJob.plural)

    async def job_deleted(self, body: dict[str, Any]) -> None:
        """Delete what a job had in the store, if that job is really gone. Never raises."""
        try:
            folder = OrchestratorJob.parse(body).folder
            if folder and await self._is_gone(body["metadata"]):
                await self._delete_folder(folder)
        except (errors.ClusterError, errors.StoreError, KeyError, ValueError) as error:
            log.warning("Objects of a deleted job are left to the sweep: %s", error)

    async def watch_ended_jobs(self) -> None:
        """Wait for the deletion of jobs that are over, which the live watch does not see.

        Keeps nothing: it starts from now, and what it misses is the sweep's.
        """
        while True:
            try:
                answer = await self._kube.request("GET", self._jobs, limit="1")
                since = str(answer["metadata"]["resourceVersion"])
                events = self._kube.watch(self._jobs, since, fieldSelector=ENDED_SELECTOR)
                async for kind, body in events:
                    if kind == "DELETED":
                        await self.job_deleted(body)
            except (errors.ClusterError, KeyError) as error:
                log.info("Watching for deleted jobs begins anew: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def sweep_forever(self, seconds: float) -> None:
        """Sweep every so often."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.sweep()
            except (errors.ClusterError, errors.StoreError) as error:
                log.warning("The sweep did not end, and is tried again later: %s", error)

    async def sweep(self) -> int:
        """Delete old objects under jobs/ that belong to no job; returns how many.

        Objects are listed before jobs: what is made meanwhile is not on the first list.
        """
        limit = datetime.now(UTC) - SPARED
        old = [(key, at) for key, at in await self._store.keys(JOBS_PREFIX) if at < limit]
        if not old:
            return 0
        jobs, _ = await self._kube.list(self._jobs)
        kept = {folder for job in jobs for folder in _folders(job)}
        orphans = [key for key, _ in old if _folder(key) not in kept]
        for key in orphans:
            await self._store.delete(key)
        if orphans:
            log.info("Swept %d objects that belonged to no job.", len(orphans))
        return len(orphans)

    async def _is_gone(self, metadata: dict[str, Any]) -> bool:
        try:
            found = await self._kube.request("GET", f"{self._jobs}/{metadata['name']}")
        except errors.NotFound:
            return True
        return bool(found["metadata"]["uid"] != metadata["uid"])

    async def _delete_folder(self, folder: str) -> None:
        for key, _ in await self._store.keys(f"{JOBS_PREFIX}{folder}/"):
            await self._store.delete(key)


def _folder(key: str) -> str:
    try:
        return folder_of_key(key)
    except ValueError:
        return ""


def _folders(body: dict[str, Any]) -> set[str]:
    """Return the folders that a job may have; of a job that cannot be read, any it might."""
    key = str(((body.get("spec") or {}).get("inputs") or {}).get("key", ""))
    return {_folder(key), str(body["metadata"]["uid"])}
