"""What the API knows without asking: live jobs and services, by list and watch.

A poll of a live job costs no request. A job that is not here costs one to the store and one to
Kubernetes, before any 404: another replica may have made it a moment ago. What this one made is
here at once, however far behind the watch is.
"""

import asyncio
import json
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from orchestrator_api.pacing import Breaks
from orchestrator_crds import OrchestratorJob, OrchestratorService, Resource
from orchestrator_crds.lean import parse_job
from orchestrator_crds.lifecycle import LIVE, LIVE_SELECTOR
from orchestrator_crds.names import job_name, record_key
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, resources_path
from orchestrator_wire.s3 import Store

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Resource)
PAUSE_SECONDS = 1.0
ENDED_KEPT = 2_000
GONE_KEPT = 1_000
# An ended job changes no more, but it may expire or be deleted.
ENDED_SECONDS = 15.0


def _ignore(_old: object, _new: object) -> None:
    pass


def _object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that *data* is; raises ValueError."""
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004  (what json raises, too)
    return found


class Watched(Generic[R]):
    """All objects of one kind, or those that a selector selects, kept up to date."""

    def __init__(
        self,
        kube: Kube,
        kind: type[R],
        namespace: str,
        read: Callable[[dict[str, Any]], R],
        **query: str,
    ) -> None:
        self._kube, self._kind, self._read, self._query = kube, kind, read, query
        self._path = resources_path(namespace, kind.plural)
        self.items: dict[str, R] = {}
        self.synced = False
        # What the watch took away a moment ago.
        self._gone: deque[str] = deque(maxlen=GONE_KEPT)
        # Told of every change: what an object was, and what it is now.
        self.on_change: Callable[[R | None, R | None], None] = _ignore

    async def run(self) -> None:
        """List and watch; begin again whenever that breaks, for ever."""
        while True:
            try:
                await self._follow()
            except errors.ClusterError as error:
                # NotFound, too: the version became too old, or the definitions are not there yet.
                log.warning("Watching %s begins anew: %s", self._kind.plural, error)
            except Exception:
                log.exception("Watching %s begins anew", self._kind.plural)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _follow(self) -> None:
        there, listed, breaks, since = set(self.items), set[str](), Breaks(), ""
        # A page at a time: what came may be much larger than what is kept of it.
        async for bodies, since in self._kube.pages(self._path, **self._query):  # noqa: B007
            for body in bodies:
                if (item := self._parse(body)) is not None:
                    listed.add(item.metadata.name)
                    self.put(item)
                await breaks.take()  # of many it is seconds
        # What was put here meanwhile is newer than the list.
        for name in there - listed:
            self.drop(name)
        self.synced = told = True
        # The server ends a watch every few minutes; the next one goes on where that ended. One
        # that told nothing at all, not even a bookmark, is not to be relied on.
        while told:
            told = False
            async for kind, body in self._kube.watch(self._path, since, **self._query):
                await breaks.take()  # of a flood many lie in one piece of the answer
                self._take(kind, body)
                since, told = body["metadata"]["resourceVersion"], True

    def _take(self, kind: str, body: dict[str, Any]) -> None:
        if kind == "BOOKMARK":
            return
        item = None if kind == "DELETED" else self._parse(body)
        if item is None:  # what cannot be read is not there, as in a list
            self.drop(body["metadata"]["name"])
        else:
            self.put(item)

    def put(self, item: R) -> None:
        """Take in an object as it is now."""
        old = self.items.get(item.metadata.name)
        if old is not None and old.metadata.version > item.metadata.version > 0:
            return  # what a list says may be older than what we have written meanwhile
        self.items[item.metadata.name] = item
        self.on_change(old, item)

    def put_new(self, item: R) -> None:
        """Take in an object that we have just made, unless the watch was faster than its answer."""
        name = item.metadata.name
        if name not in self.items and name not in self._gone:
            self.put(item)

    def drop(self, name: str) -> None:
        """Let go of an object that is not selected any more; one that is not there is no error."""
        self._gone.append(name)
        old = self.items.pop(name, None)
        if old is not None:
            self.on_change(old, None)

    def _parse(self, body: dict[str, Any]) -> R | None:
        try:
            return self._read(body)
        except ValidationError as error:
            log.warning("Cannot read a %s: %.1000s", self._kind.__name__, error)
            return None


class Jobs:
    """Jobs by number: live ones from the watch, ended ones from a bounded cache over records."""

    def __init__(self, kube: Kube, store: Store, namespace: str) -> None:
        self._kube, self._store, self._namespace = kube, store, namespace
        self.live = Watched(
            kube, OrchestratorJob, namespace, parse_job, fieldSelector=LIVE_SELECTOR
        )
        self._ended: OrderedDict[str, tuple[float, OrchestratorJob]] = OrderedDict()

    def known(self, job_id: int) -> OrchestratorJob | None:
        """Return the job with this number if that costs no request, or None."""
        name = job_name(job_id)
        live = self.live.items.get(name)
        if live is not None and live.spec.id == job_id:
            return live
        at, ended = self._ended.get(name, (0.0, None))
        if ended is None or ended.spec.id != job_id or time.monotonic() - at >= ENDED_SECONDS:
            return None
        return ended

    async def find(
        self, job_id: int, may: Callable[[OrchestratorJob], bool]
    ) -> OrchestratorJob | None:
        """Return the job with this number, or None when there is none that the caller *may* see.

        One that it may not see is looked for as far as one that is not there, and so costs as much
        and fails alike. Raises ClusterError or StoreError.
        """
        if (known := self.known(job_id)) is not None and may(known):
            return known
        name = job_name(job_id)
        self._drop_old()
        job, problem = await self._recorded(job_id)
        if job is None or not may(job):
            job = await self._asked(name)
        if job is not None and may(job):
            self.learn(job)
            # One made with kubectl may have such a name, but has no number.
            return job if job.spec.id == job_id else None
        if problem is not None:
            raise problem  # it may have a record, so this is no time to say that there is no job
        if job is None and known is None:
            self._ended.pop(name, None)
        return None

    async def _recorded(
        self, job_id: int
    ) -> tuple[OrchestratorJob | None, errors.StoreError | None]:
        """Return an ended job from its record, or what is in the way of reading that."""
        try:
            data = await self._store.get(record_key(job_id))
        except errors.NoSuchObject:
            return None, None
        except errors.StoreError as error:
            log.warning("The record of job %d cannot be read: %s", job_id, error)
            return None, error
        try:
            return parse_job(_object(data)), None
        except ValueError as error:
            log.warning("The record of job %d is damaged: %s", job_id, error)
            return None, errors.StoreDown(f"the record of job {job_id} is damaged")

    async def _asked(self, name: str) -> OrchestratorJob | None:
        try:
            path = resources_path(self._namespace, OrchestratorJob.plural, name)
            return parse_job(await self._kube.request("GET", path))
        except errors.NotFound:
            return None

    def _drop_old(self) -> None:
        """Let go of ended jobs that were read too long ago; they lie in the order of reading."""
        limit = time.monotonic() - ENDED_SECONDS
        while self._ended and next(iter(self._ended.values()))[0] < limit:
            self._ended.popitem(last=False)

    def forget(self, job: OrchestratorJob) -> None:
        """Have *job* be asked for anew: what was known of it does not hold any more."""
        self._ended.pop(job.metadata.name, None)

    def learn(self, job: OrchestratorJob) -> None:
        """Take in a job that this replica has just read or written."""
        name = job.metadata.name
        if job.status.phase in LIVE:
            # The watch may be behind, or ahead; of two copies the newer stays.
            known = self.live.items.get(name)
            if known is not None and known.metadata.version < job.metadata.version:
                self.live.put(job)
            return
        if name in self.live.items:
            self.live.drop(name)
        self._ended[job.metadata.name] = (time.monotonic(), job)
        self._ended.move_to_end(job.metadata.name)
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)


class Services:
    """Services by name, from the watch."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.watched = Watched(kube, OrchestratorService, namespace, OrchestratorService.parse)

    def find(self, name: str) -> OrchestratorService | None:
        """Return the service of this name, or None."""
        return self.watched.items.get(name)

    @property
    def largest_upload(self) -> int:
        """Return the largest upload, in bytes, that any service takes."""
        limits = [s.spec.inputs.max_bytes for s in self.watched.items.values()]
        return max(limits, default=400 * 1024 * 1024)
