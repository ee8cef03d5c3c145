"""Carrying out what the core decided: each step as the write, or the few, that it takes."""

import asyncio
import logging
import time
from typing import Any

from orchestrator_crds import JobSpec, OrchestratorJob, Phase, Resource, transitions
from orchestrator_crds.job import JobStatus
from orchestrator_crds.lifecycle import Reason
from orchestrator_crds.meta import Metadata, seconds_of
from orchestrator_crds.outcome import Outcome
from orchestrator_crds.resources import ComputeResources
from orchestrator_crds.script import findings
from orchestrator_operator.cluster.lease import Lease
from orchestrator_operator.cluster.writes import Writer
from orchestrator_operator.core import podspec, steps
from orchestrator_operator.core.judgement import Verdict
from orchestrator_operator.mirror import JOBS, PODS, Mirror
from orchestrator_wire import errors
from orchestrator_wire.events import Events
from orchestrator_wire.kube import now

log = logging.getLogger(__name__)
LEARN_SECONDS = 1.0
# How long a job keeps its place whose pod the cluster refuses.
REFUSED_SECONDS = 60.0


class Actor:
    """Writes to the cluster, and puts what the cluster answers into the mirror."""

    def __init__(
        self,
        mirror: Mirror,
        writer: Writer,
        lease: Lease,
        surroundings: podspec.Surroundings,
        events: Events,
    ) -> None:
        self.mirror, self._events = mirror, events
        self._writer, self._lease, self._surroundings = writer, lease, surroundings

    async def do(self, job: OrchestratorJob, step: steps.Step) -> None:
        """Carry out *step*; raises ClusterError or Deposed."""
        match step:
            case steps.Adopt():
                await self._patch(job, transitions.adopt(job, epoch=self._lease.epoch))
            case steps.Requeue():
                await self._patch(job, transitions.requeue(job, now=now()))
            case steps.CreatePod():
                await self._create_pod(job)
            case steps.DeletePod():
                await self.delete_pod(step)
            case steps.Explain(reason, message):
                await self.explain(job, reason, message)
            case steps.Finish(outcome):
                await self._finish(job, outcome)
            case steps.ConfirmGone():
                await self._confirm_gone(job)

    async def _patch(self, job: OrchestratorJob, status: dict[str, Any]) -> None:
        self.mirror.see(JOBS, await self._writer.patch_job(job, status))

    async def _create_pod(self, job: OrchestratorJob) -> None:
        claim, service = job.status.claim, self.mirror.services.get(job.spec.service)
        pool = self.mirror.pools.get(claim.pool) if claim else None
        if service is None or pool is None:
            # Its service or pool was deleted since the claim: it waits with a reason instead.
            await self._patch(job, transitions.requeue(job, now=now()))
            return
        selector = pool.spec.node_selector
        nodes = (node for node in self.mirror.nodes.values() if node.has(selector))
        manifest = podspec.build(job, service, pool, self._surroundings, nodes)
        try:
            self.mirror.see(PODS, await self._writer.create_pod(manifest))
        except errors.Permanent as error:
            # A policy of the cluster's refuses the pod. That may be mended, so it is tried again;
            # for a while in its place, and then others have that.
            if time.time() - seconds_of(job.status.submitted_at) > REFUSED_SECONDS:
                log.warning("%s: %s", job.metadata.name, error)
                await self._patch(job, transitions.refused(job, str(error), now=now()))
                return
            if job.status.reason != Reason.POD_REJECTED:
                await self.explain(job, Reason.POD_REJECTED, f"The pod is refused: {error}")
            raise

    async def _finish(self, job: OrchestratorJob, outcome: Outcome) -> None:
        if outcome.reason is Reason.UNKNOWN_SERVICE:
            # The watch of services may be behind; a verdict for good takes a live look.
            await self._writer.check_no_service(job.spec.service)
        # From a live read: the agent may have told the end a moment ago.
        fresh = OrchestratorJob.parse(await self._writer.read_job(job.metadata.name))
        same = fresh.metadata.uid == job.metadata.uid and fresh.status.attempt == job.status.attempt
        if not same or fresh.status.phase != job.status.phase:
            # The agent was faster; its pod is released like any other whose job is over.
            self.mirror.see(JOBS, fresh.to_dict())
            return
        service = self.mirror.service(fresh.spec.service)
        patch = transitions.settle(fresh, outcome, service, now=now())
        await self._patch(fresh, patch)
        if outcome.phase is not Phase.KILLED:
            await self._events.warn(fresh, outcome.reason, str(patch["message"]))
        for pod in self.mirror.pods_of(job):
            if not pod.leaving:
                await self.delete_pod(steps.DeletePod(pod.name, pod.metadata.uid))

    async def _confirm_gone(self, job: OrchestratorJob) -> None:
        recorded = job.status.pod
        found = await self._writer.read_pod(recorded.name) if recorded else None
        if found and recorded and found["metadata"]["uid"] == recorded.uid:
            self.mirror.see(PODS, found)
        else:
            await self._finish(job, steps.gone(job))

    async def invalidate(self, name: str, problem: str) -> None:
        """Mark a queued job that cannot be read as Invalid, saying what is wrong with it."""
        body = await self._writer.read_job(name)
        phase = (body.get("status") or {}).get("phase", Phase.QUEUED)
        if phase != Phase.QUEUED:
            # Not decided on what cannot be read; raised, so that it is looked at seldom.
            raise errors.Permanent(
                f"It cannot be read and is {phase}, so it is left alone: {problem}"
            )
        stub = OrchestratorJob.model_construct(
            metadata=Metadata.model_validate(body["metadata"]),
            spec=JobSpec(service="unknown", user_id="unknown"),
            status=JobStatus(),
        )
        outcome = Outcome(Phase.INVALID, Reason.INVALID_SPEC, f"The job cannot be read: {problem}")
        await self._patch(stub, transitions.finish(stub, outcome, None, now=now()))

    async def claim(self, job: OrchestratorJob, pool: str, resources: ComputeResources) -> None:
        """Claim the next attempt at *job*, or end it where its service forbids its script.

        Returns or raises only when it is known how it went. Scripts are looked at no sooner: those
        of all that waits would be much to hold, and to look through.
        """
        service = self.mirror.service(job.spec.service)
        if service is None:
            raise errors.Conflict(f"Service {job.spec.service} is gone meanwhile.")
        if job.spec.inputs is None and steps.is_enforced(service):
            script = (await self._writer.read_job(job.metadata.name))["spec"].get("script", "")
            if found := await asyncio.to_thread(findings, script):
                await self._finish(job, steps.script_refused(found))
                return
        try:
            patch = transitions.claim(
                job, epoch=self._lease.epoch, pool=pool, resources=resources, now=now()
            )
            await self._patch(job, patch)
        except errors.Temporary:
            # Perhaps it was written, perhaps not: quota is held until a read tells.
            await self._learn(job.metadata.name)
            raise

    async def explain(self, job: OrchestratorJob, reason: str, message: str) -> None:
        """Write why *job* waits."""
        await self._patch(job, transitions.waiting(job, reason, message))

    async def delete_pod(self, step: steps.DeletePod) -> None:
        """Delete a pod."""
        left = await self._writer.delete_pod(step.pod, step.uid)
        if left is not None:
            self.mirror.see(PODS, left)
        elif (known := self.mirror.pods.get(step.pod)) and known.metadata.uid == step.uid:
            self.mirror.lose(PODS, known.body)

    async def reread(self, job: str) -> None:
        """Put a job as it is now into the mirror; never raises ClusterError."""
        try:
            self.mirror.see(JOBS, await self._writer.read_job(job))
        except errors.NotFound:
            self.mirror.unreadable.pop(job, None)
            known = self.mirror.jobs.get(job)
            if known is not None:
                self.mirror.lose(JOBS, known.to_dict())
        except errors.ClusterError as error:
            log.warning("%s: %s", job, error)

    async def _learn(self, name: str) -> None:
        while True:
            self._lease.check()
            try:
                self.mirror.see(JOBS, await self._writer.read_job(name))
            except errors.NotFound:
                return
            except errors.ClusterError:
                await asyncio.sleep(LEARN_SECONDS)
            else:
                return

    async def judge(self, item: Resource, verdict: Verdict, more: dict[str, Any]) -> None:
        """Write a Ready condition and *more* of a status, and have all looked at once more."""
        try:
            self.mirror.see(item.plural, await self._writer.judge(item, verdict, more))
        finally:
            self.mirror.administered_changed = True

    async def tell(self, item: Resource, status: dict[str, Any]) -> None:
        """Write how busy a service, quota or pool is."""
        self.mirror.see(item.plural, await self._writer.tell(item, status))
