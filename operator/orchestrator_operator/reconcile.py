"""The one task that decides: drain what was seen, ask the core, write through a bounded pool.

Level-triggered: whatever it misses or fails at, it looks at again, because an event, a write's
answer, a timer or the re-list marks the job as to be looked at.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import replace
from itertools import islice
from typing import Any

from orchestrator_crds import OrchestratorJob, Phase, Resource
from orchestrator_crds.lifecycle import Reason
from orchestrator_crds.outcome import Outcome
from orchestrator_crds.resources import ComputeResources, demand
from orchestrator_operator.act import Actor
from orchestrator_operator.admit import Admission
from orchestrator_operator.cluster.lease import Deposed, Lease
from orchestrator_operator.core import steps
from orchestrator_operator.core.admission import Admitted, Plan, Refused
from orchestrator_operator.core.blockers import too_large
from orchestrator_operator.core.snapshot import Held, Snapshot
from orchestrator_operator.judge import Judge
from orchestrator_operator.refusals import Refusals
from orchestrator_operator.telling import Telling
from orchestrator_wire import errors

log = logging.getLogger(__name__)

WRITES_AT_ONCE = 32
# Claims that are decided and not yet written: few, since a lowered quota waits for them.
CLAIMS_AT_ONCE = 64
# A pass over a long queue takes its time, and every new job asks for one: so many times as long as
# it took, others get the processor. A short queue's pass takes well under a millisecond.
REST_PER_PASS = 5.0
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.2, 30.0


class Decider:
    """Decides and writes for as long as this process leads."""

    def __init__(self, actor: Actor, lease: Lease) -> None:
        self.mirror = actor.mirror
        self._actor, self._lease = actor, lease
        self._inbox: deque[tuple[str, str | None, dict[str, Any]]] = deque()
        self._wake = asyncio.Event()
        self._pool = asyncio.Semaphore(WRITES_AT_ONCE)
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._refusals = Refusals()
        self._failures: dict[str, int] = {}
        self._claimed: dict[str, Held] = {}
        self._adopting = True
        self.admission = Admission(self.mirror)
        self._telling, self._judge = Telling(), Judge(self.mirror)
        self._rested_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.synced = False

    def seen(self, plural: str, kind: str | None, body: dict[str, Any]) -> None:
        """Take a watch event; never blocks, never fails."""
        self._inbox.append((plural, kind, body))
        self._wake.set()

    def look_again(self) -> None:
        """Wake the decider, for instance after a re-list went into the mirror."""
        self._wake.set()

    async def run(self) -> None:
        """Decide until cancelled; raises Deposed when the Lease is lost."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._inbox:
                plural, kind, body = self._inbox.popleft()
                (self.mirror.lose if kind == "DELETED" else self.mirror.see)(plural, body)
            if self.synced:
                self._lease.check()
                self._pass()

    async def drain(self) -> None:
        """Return when the writes under way are done."""
        while under_way := [task for task in self._writing.values() if not task.done()]:
            await asyncio.wait(under_way)

    def _pass(self) -> None:
        if self.mirror.administered_changed or self.mirror.nodes_changed or self._judge.waiting:
            self._judge_all()
        jobs, self.mirror.dirty_jobs = self.mirror.dirty_jobs, set()
        pods, self.mirror.dirty_pods = self.mirror.dirty_pods, set()
        # Who waits for a place to be refused in has it before who comes now.
        first = [name for name in self._refusals.next() if name in jobs]
        for name in (*first, *(jobs - set(first))):
            self._step(name)
        for name in pods:
            self._release(name)
        if self._adopting:
            self._adopting = any(self._foreign(job) for job in self.mirror.jobs.values())
        if not self._adopting:
            self._admit_in_turn()

    def _admit_in_turn(self) -> None:
        """Admit, unless the last pass took so long that others should get their turn first."""
        clock = asyncio.get_running_loop().time
        early = self._rested_at - clock()
        if early > 0:
            self._wake_in(early)
            return
        started = clock()
        self._admit()
        self._rested_at = clock() + REST_PER_PASS * (clock() - started)

    def _foreign(self, job: OrchestratorJob) -> bool:
        claim = job.status.claim
        return (
            job.status.phase is Phase.SUBMITTED
            and claim is not None
            and claim.epoch != self._lease.epoch
        )

    def _step(self, name: str) -> None:
        if name in self._writing:
            return  # looked at again when that write is done
        if name in self.mirror.unreadable:
            if self._refusals.take(name):
                self._write(name, self._actor.invalidate(name, self.mirror.unreadable[name]))
            return
        job = self.mirror.jobs.get(name)
        if job is None:
            self._failures.pop(name, None)
            self._refusals.withdraw(name)
            return
        view = steps.View(
            job=job,
            pods=self.mirror.pods_of(job),
            epoch=self._lease.epoch,
            adopting=self._adopting,
            service=self.mirror.service(job.spec.service),
            now=time.time(),
        )
        step = steps.next_step(view)
        if job.status.phase is Phase.QUEUED and isinstance(step, steps.Finish):
            if not self._refusals.take(name):
                return
        else:
            self._refusals.withdraw(name)
        if step is not None:
            self._write(name, self._actor.do(job, step))

    def _release(self, name: str) -> None:
        """Delete a pod whose job is over, once the pod is."""
        pod = self.mirror.pods.get(name)
        if pod is None:
            self._failures.pop(f"pod/{name}", None)
        if pod is None or f"pod/{name}" in self._writing or pod.job in self.mirror.unreadable:
            return
        job = self.mirror.jobs.get(pod.job)
        if job is not None and job.metadata.uid == pod.job_uid:
            return
        step = steps.pod_without_job(pod)
        if step is not None:
            self._write(f"pod/{name}", self._actor.delete_pod(step))

    def _admit(self) -> None:
        moment = time.time()
        resumes_at = self.mirror.resume(moment)
        places = CLAIMS_AT_ONCE - len(self._claimed)
        if places <= 0:
            return  # a claim that is written makes place, and wakes us
        busy = {*self._writing, *self._refusals.waiting}
        snapshot = self.admission.snapshot(self._claimed, busy, moment)
        plan = self.admission.decide(snapshot, places)
        for admitted in plan.admitted:
            self._claim(admitted)
        refusable = (refused for refused in plan.refused if refused.name not in busy)
        for refused in islice(refusable, self._refusals.room):
            self._refuse(plan, refused)
        told, soonest = self._telling.due(
            plan, self.mirror.jobs, busy.union(self._refusals.under_way)
        )
        for item in told:
            job, blocker = self.mirror.jobs[item.name], item.blocker
            self._write(item.name, self._actor.explain(job, blocker.code, blocker.message))
        told_of, later = self._judge.busy(snapshot)
        for resource, status in told_of:
            self._write_once(resource, self._actor.tell(resource, status))
        ends = (resumes_at, self.admission.changes_at)
        waits = [end - moment for end in ends if end is not None]
        waits += [wait for wait in (soonest, later) if wait is not None]
        if waits:
            self._wake_in(max(min(waits), 0.0))

    def look(self) -> Snapshot:
        """Return everything as it is now; it does not change when the cluster does."""
        found = self.admission.snapshot(self._claimed, (), time.time())
        waiting = found.waiting.copy()
        for name in self._writing:
            job = self.mirror.jobs.get(name)
            if job is not None and job.metadata.uid in self._claimed:
                waiting.drop(name)
        return replace(found, waiting=waiting, past=dict(found.past), served=dict(found.served))

    def _claim(self, admitted: Admitted) -> None:
        job = self.mirror.jobs[admitted.name]
        service = self.mirror.services[job.spec.service].spec
        group, uid = admitted.group, job.metadata.uid
        self._claimed[uid] = Held(
            group.service, group.user, group.demand, admitted.pool, since=time.time()
        )
        size = demand(service.resources, job.spec.resources)
        self._write(admitted.name, self._claiming(uid, job, admitted.pool, size))

    async def _claiming(
        self, uid: str, job: OrchestratorJob, pool: str, size: ComputeResources
    ) -> None:
        try:
            await self._actor.claim(job, pool, size)
        finally:
            self._claimed.pop(uid, None)

    def _refuse(self, plan: Plan, refused: Refused) -> None:
        job = self.mirror.jobs[refused.name]
        sentence = too_large(plan, refused.group, refused.resource)
        outcome = Outcome(Phase.INVALID, Reason.NEVER_FITS, sentence)
        self._refusals.take(refused.name)
        self._write(refused.name, self._actor.do(job, steps.Finish(outcome)))

    def _wake_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)

    def _judge_all(self) -> None:
        mirror = self.mirror
        mirror.administered_changed = mirror.nodes_changed = False
        self.admission.right = self._judge.right()
        self.admission.refresh()
        for resource, verdict, more in self._judge.due(self._claimed):
            self._write_once(resource, self._actor.judge(resource, verdict, more))

    def _write_once(self, resource: Resource, work: Coroutine[Any, Any, None]) -> None:
        """Write a status, unless one is being written: then what changed is looked at after it."""
        key = f"{resource.plural}/{resource.metadata.name}"
        if key in self._writing:
            work.close()
        else:
            self._write(key, work)

    def _write(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* in the pool as the only write for *key*, and look at *key* again after it."""
        self._writing[key] = asyncio.create_task(self._bounded(key, work))

    async def _bounded(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with self._pool:
                await work
            self._failures.pop(key, None)
            self._done(key)
        except Deposed as error:
            log.warning("%s: not written: %s", key, error)
            self._done(key)
        except (errors.Conflict, errors.NotFound) as error:
            log.info("%s: changed meanwhile, reading it again: %s", key, error)
            if "/" not in key:
                await self._actor.reread(key)
            self._later(key)
        except (errors.ClusterError, ValueError) as error:
            log.warning("%s: %s", key, error)
            self._later(key)
        except Exception:
            log.exception("%s: unexpected, trying again later", key)
            self._later(key)
        finally:
            self._refusals.over(key)
            self.mirror.dirty_jobs.update(self._refusals.next())
            self._wake.set()

    def _later(self, key: str) -> None:
        """Let go of *key* after a pause that grows with each failure in a row."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(FIRST_RETRY_SECONDS * 2 ** (count - 1), LONGEST_RETRY_SECONDS)
        asyncio.get_running_loop().call_later(pause, self._done, key)

    def _done(self, key: str) -> None:
        self._writing.pop(key, None)
        kind, _, name = key.rpartition("/")
        if kind == "pod":
            self.mirror.dirty_pods.add(name)
        elif kind:
            self.mirror.administered_changed = True
        else:
            self.mirror.dirty_jobs.add(name)
        self._wake.set()
