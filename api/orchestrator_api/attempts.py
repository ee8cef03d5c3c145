"""What an attempt's pod may do, and when: the rules behind the gateway's routes.

Start and end are compare-and-swaps on a live read of the job, so that of two pods only one ever
gets the inputs, and only that one can tell the job's end.
"""

import logging
from dataclasses import dataclass
from typing import Any

from orchestrator_api.cache import Jobs, Services
from orchestrator_api.cluster import Cluster
from orchestrator_api.tokens import Caller
from orchestrator_crds import OrchestratorJob, Phase, transitions
from orchestrator_crds.job import Progress, StoredObject
from orchestrator_crds.lifecycle import LIVE
from orchestrator_crds.names import job_of_pod, results_key
from orchestrator_crds.outcome import Report, from_report
from orchestrator_wire import errors
from orchestrator_wire.events import Events
from orchestrator_wire.kube import now
from orchestrator_wire.s3 import Store

log = logging.getLogger(__name__)
TRIES = 10


class NotYours(Exception):  # noqa: N818
    """This pod is not the job's current attempt, now or ever again; it should end.

    It is not told why: a job that is another's, gone, or never was, is all the same to it.
    """

    def __init__(self) -> None:
        super().__init__("There is nothing for this pod to run.")


@dataclass(frozen=True)
class Attempts:
    """Start and end of attempts."""

    cluster: Cluster
    store: Store
    jobs: Jobs
    services: Services
    events: Events

    async def start(self, caller: Caller) -> OrchestratorJob:
        """Let *caller* be the one pod of the current attempt, Submitted → Running.

        Raises NotYours for every other pod, and Temporary while a new leader of the operator has
        yet to take over the claim.
        """
        for _ in range(TRIES):
            job, attempt = await self._read(caller)
            if _is_current(job, caller) and job.status.phase is Phase.RUNNING:
                return job  # it asked before, and the answer was lost
            if (
                job.status.phase is not Phase.SUBMITTED
                or job.status.attempt != attempt
                or job.status.claim is None
                or job.status.pod is not None
                or job.spec.terminate
            ):
                raise NotYours
            if job.status.claim.epoch != await self.cluster.epoch():
                raise errors.Temporary("The claim is an earlier operator's, not yet taken over.")
            try:
                return await self.cluster.patch_status(
                    job,
                    transitions.start(
                        job, pod=caller.pod, uid=caller.uid, node=caller.node, now=now()
                    ),
                )
            except errors.Conflict:
                continue
        raise errors.Temporary(f"Job {caller.pod} changes too fast to be started.")

    async def current(self, caller: Caller) -> OrchestratorJob:
        """Return the job that *caller* runs, read live; raises NotYours."""
        job, _ = await self._read(caller)
        if job.status.phase is not Phase.RUNNING or not _is_current(job, caller):
            raise NotYours
        return job

    async def end(
        self, caller: Caller, report: Report, results: dict[str, Any] | None
    ) -> OrchestratorJob:
        """Record the end of *caller*'s attempt, Running → its end; telling twice is telling once.

        Or back to Queued, when the service gives it another attempt. Without an exit record the
        phase stays Running, since only the kubelet knows; the results are kept all the same.
        """
        for _ in range(TRIES):
            job, _ = await self._read(caller)
            if not _is_current(job, caller):
                raise NotYours
            if job.status.phase not in LIVE:
                return job
            left = transitions.Leftovers(
                results=await self._stored(job, results),
                log_tail=report.log_tail,
                skipped=transitions.skipped(report.skipped, report.skipped_count),
                progress=Progress.read(report.progress, now()),
            )
            outcome = from_report(report, terminate=job.spec.terminate)
            if outcome is not None:
                service = self.services.find(job.spec.service)
                spec = service.spec if service else None
                patch = transitions.settle(job, outcome, spec, now=now(), left=left)
            elif not (patch := left.to_dict()):
                return job
            try:
                ended = await self.cluster.patch_status(job, patch)
            except errors.Conflict:
                continue
            if outcome is not None and outcome.phase is Phase.FAILED:
                await self.events.warn(job, outcome.reason, ended.status.message)
            return ended
        raise errors.Temporary(f"Job {caller.pod} changes too fast to be ended.")

    async def progress(self, job: OrchestratorJob, text: str) -> None:
        """Record how far the attempt is that *job* was read with."""
        progress = Progress.read(text, now())
        if progress is not None and (
            job.status.progress is None or job.status.progress.text != progress.text
        ):
            await self.cluster.patch_status(job, transitions.progressed(progress))

    async def on_request(self, caller: Caller) -> None:
        """Record that *caller* saves partial results on request only; raises NotYours."""
        job = await self.current(caller)
        if job.status.snapshots != "OnRequest":
            await self.cluster.patch_status(job, {"snapshots": "OnRequest"})

    def wanted(self, caller: Caller) -> str:
        """Return when partial results of *caller*'s job were last asked for; costs no request."""
        named = job_of_pod(caller.pod)
        job = self.jobs.live.items.get(named[0]) if named else None
        if job is None or not _is_current(job, caller):
            return ""
        return job.status.snapshot_wanted_at or ""

    async def _stored(
        self, job: OrchestratorJob, results: dict[str, Any] | None
    ) -> StoredObject | None:
        """Return the results in the store, if they are what the agent got a receipt for."""
        if results is None:
            return None
        key = results_key(job.folder, job.status.attempt)
        claimed = StoredObject.model_validate({**results, "key": key, "updatedAt": now()})
        try:
            found = await self.store.stat(key)
        except errors.NoSuchObject as error:
            raise errors.StoreDown(f"The results of {job.metadata.name} are not there.") from error
        if found != (claimed.size_bytes, claimed.etag):
            raise errors.StoreDown(f"The results of {job.metadata.name} are not what was stored.")
        return claimed

    async def _read(self, caller: Caller) -> tuple[OrchestratorJob, int]:
        named = job_of_pod(caller.pod)
        if named is None:
            raise NotYours
        try:
            job = await self.cluster.read(named[0])
        except errors.NotFound as error:
            raise NotYours from error
        # A pod of a job that was deleted may outlive it, and meet another of the same name.
        if job.metadata.uid != caller.job_uid:
            raise NotYours
        return job, named[1]


def _is_current(job: OrchestratorJob, caller: Caller) -> bool:
    same = job.metadata.uid == caller.job_uid
    return same and job.status.pod is not None and job.status.pod.uid == caller.uid
