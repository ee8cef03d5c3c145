"""The next step for one job: the one write, if any, that its state now calls for.

A function of what was last seen; the write itself is a compare-and-swap, so a step decided on
old news fails harmlessly and is decided again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator_crds import OrchestratorJob, Phase, ServiceSpec
from orchestrator_crds.amounts import readable, vector
from orchestrator_crds.lifecycle import Reason
from orchestrator_crds.outcome import Outcome, from_pod, killed, never_started, pod_gone
from orchestrator_crds.resources import NEEDED, beyond, demand, unlisted
from orchestrator_operator.core.pods import Pod

# How long an image that cannot be pulled, and the like, may take to come right.
PATIENCE_SECONDS = 60.0
# How long an agent may go on by itself once the user's container has ended. Being told to end
# does not hurry it: it has the whole grace of the pod to save the results.
LINGER_SECONDS = 30.0


@dataclass(frozen=True)
class Adopt:
    """Take over the claim of an earlier leader."""


@dataclass(frozen=True)
class Requeue:
    """Give up a claim that came to nothing."""


@dataclass(frozen=True)
class CreatePod:
    """Create the pod of the current attempt."""


@dataclass(frozen=True)
class DeletePod:
    """Ask the kubelet to end this pod, with the grace that it was made with."""

    pod: str
    uid: str


@dataclass(frozen=True)
class Finish:
    """Write the job's end; *pod* is then to be deleted, whatever it was waiting for."""

    outcome: Outcome


@dataclass(frozen=True)
class Explain:
    """Say why the job does not get on; two empty texts say that it does again."""

    reason: str
    message: str


@dataclass(frozen=True)
class ConfirmGone:
    """Make sure with a live read that the job's pod is gone, and finish the job if it is."""


Step = Adopt | Requeue | CreatePod | DeletePod | Explain | Finish | ConfirmGone


@dataclass(frozen=True)
class View:
    """What a step is decided on: the job, its own pods, and who leads."""

    job: OrchestratorJob
    pods: Sequence[Pod]
    epoch: int
    # Until a new leader has adopted the claims it found, it takes over old ones; afterwards a
    # claim of an older epoch is a late write of a leader that was gone, and is undone.
    adopting: bool
    service: ServiceSpec | None
    # Seconds since 1970.
    now: float


def next_step(view: View) -> Step | None:
    """Return the next step for a live job, or None when there is nothing to do but wait."""
    phase = view.job.status.phase
    if phase is Phase.QUEUED:
        return _queued(view)
    if phase is Phase.SUBMITTED:
        return _submitted(view)
    if phase is Phase.RUNNING:
        return _running(view)
    return None


def _queued(view: View) -> Step | None:
    if view.job.spec.terminate:
        return Finish(killed(running=False))
    # A job that came by REST was uploaded for a service that existed: it waits with a reason.
    if view.service is None and view.job.spec.id is None:
        name = view.job.spec.service
        sentence = f"There is no service {name}; `kubectl get orchestratorservices` lists them."
        return Finish(Outcome(Phase.INVALID, Reason.UNKNOWN_SERVICE, sentence))
    # The API saw the run.sh of an upload; one made with kubectl is read when its turn has come.
    inputs = view.job.spec.inputs
    if is_enforced(view.service) and inputs is not None and inputs.findings:
        return Finish(script_refused(inputs.findings))
    if view.service is not None and (sentence := _beyond(view.job, view.service)):
        return Finish(Outcome(Phase.INVALID, Reason.BEYOND_SERVICE, sentence))
    return _leftover(view, keep=None)


def is_enforced(service: ServiceSpec | None) -> bool:
    """Return whether jobs with suspicious commands do not run on this service."""
    return service is not None and service.script_policy == "Enforce"


def script_refused(findings: Sequence[str]) -> Outcome:
    """Return the outcome of a job whose run.sh holds *findings*."""
    sentence = f"run.sh holds what its service does not allow: {'; '.join(findings)}."
    return Outcome(Phase.INVALID, Reason.SCRIPT_REFUSED, sentence)


def _beyond(job: OrchestratorJob, service: ServiceSpec) -> str:
    """Return what a job asks for that its service does not give, or an empty text."""
    deadline = job.spec.active_deadline_seconds
    if deadline is not None and deadline > service.deadline_seconds:
        return (
            f"It asks to run for up to {deadline} s, and service {job.spec.service} lets a job run "
            f"for {service.deadline_seconds} s."
        )
    if job.spec.resources is None:
        return ""
    if name := unlisted(service.resources, service.max_resources, job.spec.resources):
        return f"It asks for {name[:100]}, which service {job.spec.service} does not give."
    wanted = vector(demand(service.resources, job.spec.resources).amounts())
    allowed = vector(demand(service.resources, service.max_resources).amounts())
    given = vector(service.resources.amounts())
    if name := next((name for name in NEEDED if given.get(name) and not wanted.get(name)), None):
        # Its pod would have no limit, and no quota would count it.
        return f"It asks for no {name}, of which each job of service {job.spec.service} has some."
    if name := next((n for n in wanted if n not in NEEDED and wanted[n] % 1000), None):
        return f"It asks for a part of one {name[:100]}, which can only be had whole."
    if (name := beyond(wanted, allowed)) is None:
        return ""
    most = readable(name, allowed.get(name, 0))
    return (
        f"It asks for {readable(name, wanted[name])} of {name}, and service {job.spec.service} "
        f"gives a job {most} at most."
    )


def _submitted(view: View) -> Step | None:
    job, claim = view.job, view.job.status.claim
    if job.spec.terminate:
        return Finish(killed(running=False))
    pod = _current(view)
    if claim is None or claim.epoch != view.epoch:
        if view.adopting and claim is not None:
            return Adopt()
        return DeletePod(pod.name, pod.metadata.uid) if pod and not pod.leaving else Requeue()
    if leftover := _leftover(view, keep=pod):
        return leftover
    if pod is None:
        return CreatePod()
    if pod.over:
        return Finish(from_pod(pod.body, terminate=False, started=False))
    if stuck := _stuck(view, pod):
        return Finish(stuck)
    if _useless(view, pod):
        return DeletePod(pod.name, pod.metadata.uid)  # and another takes its place
    return _delayed(view, pod)


def _delayed(view: View, pod: Pod) -> Step | None:
    """Return the word about a pod that takes its time to start, if it has not been said."""
    reason = view.job.status.reason
    if pod.unschedulable:
        if reason == Reason.UNSCHEDULABLE:
            return None
        sentence = f"No node can take the job's pod now: {pod.unschedulable}"
        return Explain(Reason.UNSCHEDULABLE, sentence)
    slow = pod.phase == "Pending" and view.now - pod.begun > PATIENCE_SECONDS
    return Explain(Reason.POD_STARTS_SLOWLY, _SLOW) if slow and not reason else None


# A large image on its way, or a volume that cannot be had.
_SLOW = (
    "The job's pod has a node, but takes long to start there: its image or a volume is not there "
    "yet. `kubectl describe pod` tells which."
)


def _running(view: View) -> Step | None:
    job, recorded = view.job, view.job.status.pod
    pod = next((p for p in view.pods if recorded and p.metadata.uid == recorded.uid), None)
    if pod is None:
        return ConfirmGone()
    if pod.over:
        return Finish(from_pod(pod.body, terminate=job.spec.terminate))
    if stuck := _stuck(view, pod):
        return Finish(stuck)
    if leftover := _leftover(view, keep=pod):
        return leftover
    # Stopping is the kubelet's SIGTERM to the wrapper, which ends run.sh; the agent saves what
    # there is.
    if _useless(view, pod) or (job.spec.terminate and not pod.leaving):
        return DeletePod(pod.name, pod.metadata.uid)
    if pod.unreachable != (job.status.reason == Reason.NODE_UNREACHABLE):
        return _LOST_SIGHT if pod.unreachable else Explain("", "")
    return None


# It may still run there, so no other attempt may start.
_LOST_SIGHT = Explain(
    Reason.NODE_UNREACHABLE,
    "The job's node does not answer. The job goes on when it does; it is run again elsewhere once "
    "the node or the pod has been removed from the cluster.",
)


def _useless(view: View, pod: Pod) -> bool:
    """Return whether *pod* would wait for ever for its other half, and is not told to end yet."""
    main_ended_at = pod.ended_at("main")
    lingers = bool(main_ended_at) and view.now - main_ended_at > LINGER_SECONDS
    return not pod.leaving and (pod.ended("agent") or lingers)


def _stuck(view: View, pod: Pod) -> Outcome | None:
    patient = view.now - pod.begun < PATIENCE_SECONDS
    return never_started(pod.body, patient=patient)


def _current(view: View) -> Pod | None:
    attempt = view.job.status.attempt
    return next((p for p in view.pods if p.attempt == attempt), None)


def _leftover(view: View, keep: Pod | None) -> Step | None:
    """Return the deletion of a pod of another attempt that is not on its way out yet."""
    for pod in view.pods:
        if (keep is None or pod.metadata.uid != keep.metadata.uid) and not pod.leaving:
            return DeletePod(pod.name, pod.metadata.uid)
    return None


def pod_without_job(pod: Pod) -> DeletePod | None:
    """Return the deletion of a pod whose job is not live, once it is of no more use to anyone.

    An agent that has just told its job's end is left to close by itself; a pod that has not
    started has nothing to start for.
    """
    if pod.leaving or not (pod.useless or pod.phase in {"", "Pending"}):
        return None
    return DeletePod(pod.name, pod.metadata.uid)


def gone(job: OrchestratorJob) -> Outcome:
    """Return the outcome of a running job whose pod is gone without a report."""
    return pod_gone(terminate=job.spec.terminate)
