"""Which limits of a quota hold at a given moment: its windows and overrides, laid over its own.

Cron expressions are read by cronsim. Where clocks change, Debian's cron is followed: a window that
would open in the hour that is left out in spring opens right after it, and one in the hour that
comes twice in autumn opens once; but one whose minute or hour begins with * opens whenever the
clock shows so, and thus never or twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from orchestrator_crds.quota import Limits, Override, QuotaSpec, UserLimits, Window

# cronsim takes a sixth, for seconds.
FIELDS = 5
_LAYERED = (
    "max_running",
    "max_running_per_user",
    "max_queued_per_user",
)
_MERGED = ("max_resources", "max_resources_per_user")


@dataclass(frozen=True)
class InForce:
    """The limits of one quota at one moment.

    *open* are the names of the windows and overrides that count; *until* is when that may change,
    in seconds since 1970, or None when it never does by itself. *origins* tells by which one
    a limit is set: `users.alice.maxResources.cpu` by `windows.night.`.
    """

    limits: Limits
    open: tuple[str, ...] = ()
    until: float | None = None
    origins: Mapping[str, str] = field(default_factory=dict)


def in_force(spec: QuotaSpec, now: float) -> InForce:
    """Return the limits of *spec* at *now*, in seconds since 1970.

    A window or override that cannot be read, for which there is a `problem`, does not count: what
    was right once may not be any more, as when a time zone is gone.
    """
    layers: list[tuple[str, str, Limits]] = []
    changes: list[float] = []
    for name, window in sorted(spec.windows.items()):
        try:
            begin, end, following = _around(window, now)
        except ValueError:
            continue
        if begin <= now < end:
            layers.append(("windows", name, window))
            changes.append(end)
        if following is not None:
            changes.append(following)
    for name, override in sorted(spec.overrides.items()):
        try:
            begin, end = _span(override)
        except ValueError:
            continue
        if begin <= now < end:
            layers.append(("overrides", name, override))
        changes += [moment for moment in (begin, end) if moment > now]
    limits: Limits = spec
    origins: dict[str, str] = {}
    for where, name, layer in layers:
        limits = _over(limits, layer)
        origins |= dict.fromkeys(_set_by(layer), f"{where}.{name}.")
    names = tuple(name for _, name, _ in layers)
    return InForce(limits, names, min(changes, default=None), origins)


def problem(spec: QuotaSpec, now: float) -> tuple[str, str] | None:
    """Return the first thing that is wrong with windows or overrides, as (field, sentence)."""
    for name, window in sorted(spec.windows.items()):
        where = f"spec.windows.{name}"
        try:
            _zone(window)
        except ValueError as error:
            return f"{where}.timeZone", str(error)
        try:
            if _fire(window, now) is None:
                return f"{where}.schedule", f"{window.schedule!r} never comes."
        except ValueError as error:
            return f"{where}.schedule", str(error)
    for name, override in sorted(spec.overrides.items()):
        where = f"spec.overrides.{name}"
        try:
            begin, end = _span(override)
        except ValueError:
            return where, "startsAt and endsAt must be RFC 3339 times, with a time zone."
        if begin >= end:
            return f"{where}.endsAt", "It ends before it starts."
    return None


def _around(window: Window, now: float) -> tuple[float, float, float | None]:
    """Return begin and end of the last opening up to *now*, and the next opening, if any."""
    following = _fire(window, now)
    last = _fire(window, now, back=True)
    if last is None:
        return 0.0, 0.0, following
    return last, last + window.duration_seconds, following


def _fire(window: Window, now: float, *, back: bool = False) -> float | None:
    """Return the first opening after *now*, or the last one up to it; raises ValueError if wrong.

    cronsim is given what the clock shows, without a zone: with one, it goes astray from moments
    in the hour that comes twice, and where clocks change by half an hour.
    """
    zone = _zone(window)
    shown = datetime.fromtimestamp(int(now), zone).replace(tzinfo=None)
    first, last = _when(shown, zone)
    again = timedelta(seconds=last - first)
    start = shown + again + timedelta(seconds=1) if back else shown - again
    found: list[float] = []
    try:
        cron = CronSim(window.schedule, start, reverse=back)
    except CronSimError as error:
        raise ValueError(f"{window.schedule!r} is no cron expression: {error}.") from error
    if len(window.schedule.split()) != FIELDS:
        raise ValueError(f"{window.schedule!r} has more fields than the {FIELDS} of cron.")
    each = any(part.startswith("*") for part in cron.parts[1:3])
    for at in cron:
        moments = _openings(at, zone, each=each)
        fitting = [moment for moment in moments if (moment <= now if back else moment > now)]
        found += fitting
        # What the clock shows twice may lie on both sides of now: then a later one may be nearer.
        if fitting and len(fitting) == len(moments):
            break
    return (max if back else min)(found, default=None)


def _openings(shown: datetime, zone: ZoneInfo, *, each: bool) -> tuple[float, ...]:
    """Return the moments of an opening at *shown*; *each*: every time that the clock shows so."""
    first, last = _when(shown, zone)
    if each:
        return (first, last) if first <= last else ()
    while first > last:
        shown += timedelta(minutes=1)
        first, last = _when(shown, zone)
    return (first,)


def _when(shown: datetime, zone: ZoneInfo) -> tuple[float, float]:
    """Return the first and last moment at which the clock shows *shown*; if never, last < first."""
    first, last = (shown.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    return first, last


def _zone(window: Window) -> ZoneInfo:
    try:
        return ZoneInfo(window.time_zone)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"There is no time zone {window.time_zone!r}.") from error


def _span(override: Override) -> tuple[float, float]:
    begin = _moment(override.starts_at) if override.starts_at else 0.0
    return begin, _moment(override.ends_at)


def _moment(text: str) -> float:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return found.timestamp()


def _set_by(layer: Limits | UserLimits) -> Iterator[str]:
    """Yield the limits that *layer* sets, as paths within it."""
    for name, value in layer.to_dict().items():
        if name in {"maxResources", "maxResourcesPerUser"}:
            yield from (f"{name}.{resource}" for resource in value)
        elif name.startswith("max"):
            yield name
    for user, own in layer.users.items() if isinstance(layer, Limits) else ():
        yield from (f"users.{user}.{name}" for name in _set_by(own))


def _over(base: Limits, layer: Limits) -> Limits:
    """Return *base* with what *layer* sets."""
    changed: dict[str, object] = {}
    for name in _LAYERED:
        if (value := getattr(layer, name)) is not None:
            changed[name] = value
    for name in _MERGED:
        changed[name] = {**getattr(base, name), **getattr(layer, name)}
    users = dict(base.users)
    for user, new in layer.users.items():
        old = users.get(user)
        if old is None:
            users[user] = new
            continue
        set_here = new.model_dump(exclude_none=True, exclude={"max_resources"})
        merged = {**old.max_resources, **new.max_resources}
        users[user] = old.model_copy(update={**set_here, "max_resources": merged})
    changed["users"] = users
    return Limits(**{name: getattr(base, name) for name in Limits.model_fields} | changed)
