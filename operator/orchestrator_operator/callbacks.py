"""Telling portals that their jobs have ended: signed, tried again, never followed elsewhere."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.abc import AbstractResolver

from orchestrator_crds import OrchestratorJob
from orchestrator_crds.callback import allowed, headers, message
from orchestrator_crds.lean import parse_job
from orchestrator_operator.addresses import Resolver
from orchestrator_operator.cluster.lease import Deposed
from orchestrator_operator.cluster.writes import Writer
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, now, resources_path

log = logging.getLogger(__name__)
PENDING = "status.callback.state=Pending"
LOOK_EVERY_SECONDS = 60.0
TIMEOUT_SECONDS = 10.0
# At once, in all and to one host: one that hangs must not keep the others' waiting.
AT_ONCE, TO_ONE_HOST = 16, 4
# Of one user; the jobs themselves keep what else is to be told.
MOST_OF_A_USER = 500
# After each failure; two and a half hours in all.
PAUSES_SECONDS = (2.0, 10.0, 60.0, 300.0, 1800.0, 7200.0)


class Callbacks:
    """Delivers the ends of jobs, several at a time."""

    def __init__(
        self,
        kube: Kube,
        writer: Writer,
        namespace: str,
        hosts: Collection[str],
        key: bytes,
        pauses: tuple[float, ...] = PAUSES_SECONDS,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._kube, self._writer = kube, writer
        self._jobs = resources_path(namespace, OrchestratorJob.plural)
        self._hosts, self._key, self._pauses = hosts, key, pauses
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._of: Counter[str] = Counter()
        self._slots = asyncio.Semaphore(AT_ONCE)
        # Those of a host, for as long as somebody waits for one.
        self._host_slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(resolver=resolver or Resolver(hosts)),
        )

    async def close(self) -> None:
        """Give up what is under way; it is taken up again at the next start."""
        for task in self._under_way.values():
            task.cancel()
        await self._session.close()

    async def forever(self, seconds: float) -> None:
        """Take up, now and again, what an earlier operator or a lost event left undelivered."""
        while True:
            try:
                await self.take_up()
            except errors.ClusterError as error:
                log.warning("Cannot list undelivered callbacks, trying again: %s", error)
            await asyncio.sleep(seconds)

    async def take_up(self) -> None:
        """Deliver all that is undelivered and not under way; raises ClusterError."""
        async for bodies, _ in self._kube.pages(self._jobs, fieldSelector=PENDING):
            for body in bodies:
                try:
                    self.add(parse_job(body))
                except ValueError as error:
                    log.warning("A callback is left alone: %s", error)

    def add(self, job: OrchestratorJob) -> None:
        """Deliver the end of *job*, now and for as long as it takes, without waiting for it.

        Where too many of its user's are under way, it is taken up later.
        """
        uid, user = job.metadata.uid, job.spec.user_id
        if uid not in self._under_way and self._of[user] < MOST_OF_A_USER:
            self._of[user] += 1
            task = self._under_way[uid] = asyncio.create_task(self._deliver(job))
            task.add_done_callback(lambda _: self._over(uid, user))

    def _over(self, uid: str, user: str) -> None:
        self._under_way.pop(uid, None)
        self._of[user] -= 1
        if not self._of[user]:
            del self._of[user]

    async def _deliver(self, job: OrchestratorJob) -> None:
        url = job.status.callback.url if job.status.callback else ""
        if not allowed(url, self._hosts):
            await self._tell(job, "Refused", 0, "The administrator does not allow this host.")
            return
        attempts = job.status.callback.attempts if job.status.callback else 0
        while True:
            answer = await self._post(job, url)
            attempts += 1
            if not answer:
                await self._tell(job, "Delivered", attempts, "")
                return
            if attempts > len(self._pauses):
                await self._tell(job, "Failed", attempts, answer)
                return
            await self._tell(job, "Pending", attempts, answer)
            await asyncio.sleep(self._pauses[attempts - 1])

    async def _post(self, job: OrchestratorJob, url: str) -> str:
        """Send it once; returns what went wrong, or an empty text."""
        body, parts = message(job), urlsplit(url)
        host = f"{parts.scheme}://{parts.hostname}:{parts.port or ''}"
        of_host = self._host_slots.setdefault(host, asyncio.Semaphore(TO_ONE_HOST))
        try:
            async with of_host, self._slots:
                # Signed only now: a portal refuses what was signed minutes ago.
                signed = headers(job, body, self._key, int(time.time()))
                # Elsewhere is where the administrator has not allowed it to go.
                async with self._session.post(
                    url, data=body, headers=signed, allow_redirects=False
                ) as answer:
                    return "" if 200 <= answer.status < 300 else f"It answered {answer.status}."
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return f"It cannot be reached: {type(error).__name__}."

    async def _tell(self, job: OrchestratorJob, state: str, attempts: int, text: str) -> None:
        status: dict[str, Any] = {
            "callback": {"state": state, "attempts": attempts, "message": text, "updatedAt": now()}
        }
        try:
            await self._writer.merge_status(job.metadata.name, job.metadata.uid, status)
        except (errors.ClusterError, Deposed) as error:
            log.warning("%s: its callback is %s, which could not be noted: %s",
                        job.metadata.name, state, error)  # fmt: skip
