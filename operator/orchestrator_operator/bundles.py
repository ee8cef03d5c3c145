"""All object-store I/O of the operator: records of ended jobs, and files that are to go."""

import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator_crds import OrchestratorJob, Phase
from orchestrator_crds.names import (
    BOOKS_KEY,
    JOBS_PREFIX,
    RECORDS_PREFIX,
    folder_of_key,
    record_key,
)
from orchestrator_crds.record import outlived, record
from orchestrator_crds.service import Retention
from orchestrator_wire.errors import NoSuchObject
from orchestrator_wire.s3 import Store

log = logging.getLogger(__name__)
# An upload's object is there before its job is; younger objects are never swept.
SPARED = timedelta(hours=1)
# No upload that is still under way is as old as this.
LONGEST_UPLOAD = timedelta(days=2)


class Bundles:
    """Jobs' folders and records in the object store. Every method may raise StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def remember(self, body: dict[str, Any], retention: Retention) -> None:
        """Store the record of an ended job; one that has no number has none."""
        job_id = (body.get("spec") or {}).get("id")
        if job_id is not None:
            await self._store.put(record_key(int(job_id)), record(body, retention))

    async def forget(self, body: dict[str, Any]) -> None:
        """Delete all files of a job that somebody deleted, and its record.

        The record of one that the sweep has let go stays.
        """
        job = OrchestratorJob.parse(body)
        await self.empty(job.folder)
        if job.spec.id is not None and not await self._is_cleaned(job.spec.id):
            await self._store.delete(record_key(job.spec.id))

    async def _is_cleaned(self, job_id: int) -> bool:
        try:
            found = json.loads(await self._store.get(record_key(job_id)))
        except (NoSuchObject, ValueError):
            return False
        return bool((found.get("status") or {}).get("phase") == Phase.CLEANED)

    async def empty(self, folder: str) -> None:
        """Delete everything in a job's folder."""
        if folder:
            for key, _ in await self._store.keys(f"{JOBS_PREFIX}{folder}/"):
                await self._store.delete(key)

    async def books(self) -> dict[str, Any] | None:
        """Return what users ran lately, as it was kept, or None when it was not."""
        try:
            found = json.loads(await self._store.get(BOOKS_KEY))
        except NoSuchObject:
            return None
        except ValueError:
            log.warning("%s is no JSON, and begins anew", BOOKS_KEY)
            return None
        return found if isinstance(found, dict) else None

    async def keep_books(self, data: dict[str, Any]) -> None:
        """Keep what users ran lately."""
        await self._store.put(BOOKS_KEY, json.dumps(data, separators=(",", ":")).encode())

    async def folders(self) -> tuple[set[str], set[str]]:
        """Return (all folders, those of them that hold nothing that was stored lately)."""
        limit = datetime.now(UTC) - SPARED
        every, fresh = set(), set()
        async for page in self._store.pages(JOBS_PREFIX):
            for key, stored_at in page:
                folder = folder_of(key)
                every.add(folder)
                if stored_at >= limit:
                    fresh.add(folder)
        return every - {""}, every - fresh - {""}

    async def abandon_uploads(self) -> None:
        """Give back the room of uploads whose process is long gone."""
        count = await self._store.abandon_uploads(JOBS_PREFIX, datetime.now(UTC) - LONGEST_UPLOAD)
        if count:
            log.info("Aborted %d uploads that nobody will finish.", count)

    async def drop_old_records(self, shortest_seconds: float, now: float) -> int:
        """Delete the records whose time is over; returns how many.

        None is read that is younger than any service's retention could let it go.
        """
        count = 0
        async for key in self._records_before(now - shortest_seconds):
            if outlived(await self._store.get(key), now):
                await self._store.delete(key)
                count += 1
        return count

    async def _records_before(self, moment: float) -> AsyncIterator[str]:
        async for page in self._store.pages(RECORDS_PREFIX):
            for key, stored_at in page:
                if stored_at.timestamp() <= moment:
                    yield key


def folder_of(key: str) -> str:
    """Return the folder of a key, or an empty text when it is not the key of a job's object."""
    try:
        return folder_of_key(key)
    except ValueError:
        return ""
