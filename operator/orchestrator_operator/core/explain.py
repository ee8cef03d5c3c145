"""Everything about why a job waits, from one snapshot."""

from datetime import UTC, datetime

from orchestrator_crds import explanation
from orchestrator_crds.explanation import ExpectedStart, Explanation, Number
from orchestrator_crds.meta import written
from orchestrator_operator.core import blockers, remedies
from orchestrator_operator.core.admission import plan
from orchestrator_operator.core.durations import Durations
from orchestrator_operator.core.forecast import expected, position
from orchestrator_operator.core.snapshot import Snapshot

# How far back in line a job may be to be told its place, and what would start it now.
MOST_PLACES = 5_000
MOST_TO_CHANGE = 1_000


def explain(snapshot: Snapshot, name: str, past: Durations) -> Explanation | None:
    """Return why the job *name* waits, or None when no such job waits.

    It takes many passes, so time in proportion to the users and jobs before it.
    """
    job = snapshot.waiting.get(name)
    if job is None:
        return None
    now = plan(snapshot)
    place = position(snapshot, name, MOST_PLACES)
    starts = any(admitted.name == name for admitted in now.admitted)
    found = [] if starts else blockers.blockers(now, job.group)
    near = place is not None and place <= MOST_TO_CHANGE
    return Explanation(
        as_of=_moment(snapshot.now),
        position=place,
        waiting=snapshot.waiting.count(job.group.service),
        blockers=tuple(map(_blocker, found)),
        remedies=tuple(map(_remedy, remedies.remedies(snapshot, name) if near and found else ())),
        expected_start=_expected(snapshot, name, past),
    )


def _expected(snapshot: Snapshot, name: str, past: Durations) -> ExpectedStart | None:
    found = expected(snapshot, name, past)
    if found is None:
        return None
    latest = None if found.latest is None else _moment(found.latest)
    return ExpectedStart(earliest=_moment(found.earliest), latest=latest)


def _blocker(found: blockers.Blocker) -> explanation.Blocker:
    limit, used, yours = (
        None if n is None else _number(n, found.resource)
        for n in (found.limit, found.used, found.yours)
    )
    return explanation.Blocker(
        code=found.code,
        message=found.message,
        kind=found.kind,
        name=found.name,
        field=found.field,
        resource=found.resource,
        limit=limit,
        used=used,
        yours=yours,
    )


def _remedy(found: remedies.Remedy) -> explanation.Remedy:
    changes = tuple(
        explanation.Change(
            kind=change.kind,
            name=change.name,
            field=change.field,
            resource=change.resource,
            before=_number(change.before, change.resource),
            after=_number(change.after, change.resource),
        )
        for change in found.changes
    )
    return explanation.Remedy(message=found.message, ends=found.ends, changes=changes)


def _number(value: int, resource: str) -> Number:
    """Return thousandths of *resource* in its base unit; jobs and nodes are counted as they are."""
    if not resource:
        return value
    return value // 1000 if value % 1000 == 0 else value / 1000


def _moment(seconds: float) -> str:
    return written(datetime.fromtimestamp(seconds, UTC))
