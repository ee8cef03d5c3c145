"""Which limits of a quota hold when: windows, overrides, and days on which clocks change."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from orchestrator_crds.quota import Limits, QuotaSpec
from orchestrator_crds.windows import in_force, problem

MINUTE, HOUR, DAY = 60, 3600, 86400
AMSTERDAM, NEW_YORK, LORD_HOWE = "Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe"
# Each zone once in spring and once in autumn; in Havana the clock changes at midnight.
CHANGES = (
    (AMSTERDAM, "2026-03-29T01:00"),
    (AMSTERDAM, "2026-10-25T01:00"),
    (NEW_YORK, "2026-03-08T07:00"),
    (NEW_YORK, "2026-11-01T06:00"),
    (LORD_HOWE, "2026-10-03T15:30"),
    (LORD_HOWE, "2026-04-04T15:00"),
    ("America/Havana", "2026-03-08T05:00"),
    ("America/Havana", "2026-11-01T05:00"),
)


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M")


def rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def window(schedule: str, seconds: int = HOUR, zone: str = "UTC", **limits: Any) -> dict[str, Any]:
    return {"schedule": schedule, "durationSeconds": seconds, "timeZone": zone, **limits}


def override(ends: str, starts: str | None = None, **limits: Any) -> dict[str, Any]:
    return {"startsAt": starts, "endsAt": ends, **limits}


def spec(windows: Any = None, overrides: Any = None, **own: Any) -> QuotaSpec:
    return QuotaSpec.model_validate({**own, "windows": windows or {}, "overrides": overrides or {}})


def one(schedule: str, seconds: int = HOUR, zone: str = "UTC") -> QuotaSpec:
    return spec({"w": window(schedule, seconds, zone)})


def limits(found: QuotaSpec, moment: str) -> Limits:
    return in_force(found, at(moment)).limits


def edges(found: QuotaSpec, begin: float, end: float) -> Iterator[tuple[str, bool]]:
    """Yield when the only window opens and when it closes."""
    was, moment = bool(in_force(found, begin).open), begin
    while (until := in_force(found, moment).until) is not None and until < end:
        moment = until
        if (now := bool(in_force(found, moment).open)) is not was:
            yield utc(moment), now
            was = now


def opened(found: QuotaSpec, begin: float, end: float) -> list[str]:
    return [moment for moment, opens in edges(found, begin, end) if opens]


def forward(schedule: str, begin: float, end: float, zone: str | None) -> Iterator[datetime]:
    """Yield what cronsim finds, only going forward; without a zone, what the clock shows."""
    start = datetime.fromtimestamp(begin, ZoneInfo(zone or "UTC"))
    last = datetime.fromtimestamp(end, UTC)
    if zone is None:
        start, last = start.replace(tzinfo=None), last.replace(tzinfo=None)
    yield from takewhile(lambda fire: fire < last, CronSim(schedule, start))


@lru_cache(maxsize=4096)
def openings(schedule: str, zone: str, begin: float, end: float) -> tuple[float, ...]:
    """Return every opening.

    Of what begins with a star, cronsim's own answer is wrong around a change of half an hour: there,
    all moments at which the clock may show it are asked whether it does.
    """
    if not any(part.startswith("*") for part in schedule.split()[:2]):
        return tuple(fire.timestamp() for fire in forward(schedule, begin, end, zone))
    clock = ZoneInfo(zone)
    shifts = {datetime.fromtimestamp(m, clock).utcoffset() or timedelta() for m in (begin, end)}
    return tuple(
        moment.timestamp()
        for shown in forward(schedule, begin - DAY, end + DAY, None)
        for moment in (shown.replace(tzinfo=UTC) - shift for shift in shifts)
        if moment.astimezone(clock).replace(tzinfo=None, fold=0) == shown
    )


schedules = st.tuples(
    st.sampled_from(["*", "*/15", "*/45", "0", "15", "30", "45", "59", "15,45", "3-59/7"]),
    st.sampled_from(["*", "*/2", "*/3", "0", "1", "2", "3", "23", "1,2", "0-3", "1-3/2"]),
    st.sampled_from(["*", "*", "*", "*/2", "1-7", "8,25,29", "L"]),
    st.just("*"),
    st.sampled_from(["*", "*", "SUN", "SAT-7", "0#1", "7L"]),
).map(lambda parts: " ".join(parts).replace("SAT-7", "6-7"))
durations = st.sampled_from(
    [60, 10 * MINUTE, 45 * MINUTE, HOUR, 90 * MINUTE, 7 * HOUR, DAY, 2 * DAY]
)
# Seconds from the change of the clock: most of them near to it.
distances = st.one_of(
    st.integers(-3 * HOUR, 3 * HOUR),
    st.integers(-12, 12).map(lambda quarters: quarters * 15 * MINUTE),
    st.integers(-3 * DAY, 3 * DAY),
)


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_the_clock_changes_when_these_tests_say(zone: str, change: str) -> None:
    before, after = (
        datetime.fromtimestamp(at(change) + shift, ZoneInfo(zone)).utcoffset() for shift in (-1, 0)
    )
    assert before != after


# Opening and closing.


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        (at("2026-05-01T22:00") - 0.001, False),
        (at("2026-05-01T22:00"), True),
        (at("2026-05-01T22:00") + 0.5, True),
        (at("2026-05-02T06:00") - 0.001, True),
        (at("2026-05-02T06:00"), False),
    ],
)
def test_a_window_is_open_from_its_opening_until_just_before_its_end(
    moment: float, is_open: bool
) -> None:
    found = in_force(
        spec({"night": window("0 22 * * *", 8 * HOUR, maxRunning=50)}, maxRunning=2), moment
    )
    assert found.open == (("night",) if is_open else ())
    assert found.limits.max_running == (50 if is_open else 2)


def test_until_is_the_end_of_what_is_open_or_the_next_opening() -> None:
    night = one("0 22 * * *", 8 * HOUR)
    assert in_force(night, at("2026-05-01T12:00")).until == at("2026-05-01T22:00")
    assert in_force(night, at("2026-05-01T22:00")).until == at("2026-05-02T06:00")
    assert in_force(night, at("2026-05-02T06:00")).until == at("2026-05-02T22:00")


def test_without_windows_and_overrides_nothing_ever_changes() -> None:
    found = in_force(spec(maxRunning=3), at("2026-05-01T12:00"))
    assert (found.limits.max_running, found.open, found.until) == (3, (), None)


def test_a_window_longer_than_the_time_between_its_openings_never_closes() -> None:
    found = one("0 * * * *", 2 * HOUR)
    assert not list(edges(found, at("2026-05-01T00:30"), at("2026-05-03T00:00")))
    assert in_force(found, at("2026-05-01T00:30")).open == ("w",)


def test_of_overlapping_openings_the_last_one_says_when_it_ends() -> None:
    found = one("0 9,10 * * *", 2 * HOUR)
    assert list(edges(found, at("2026-05-01T00:00"), at("2026-05-02T00:00"))) == [
        ("2026-05-01T09:00", True),
        ("2026-05-01T12:00", False),
    ]


def test_an_opening_that_meets_the_end_of_the_one_before_leaves_no_gap() -> None:
    found = one("0 * * * *", HOUR)
    assert not list(edges(found, at("2026-05-01T00:00"), at("2026-05-02T00:00")))


def test_the_longest_window_is_open_for_a_month() -> None:
    found = one("0 0 1 1 *", 31 * DAY)
    assert list(edges(found, at("2025-12-01T00:00"), at("2026-12-01T00:00"))) == [
        ("2026-01-01T00:00", True),
        ("2026-02-01T00:00", False),
    ]


def test_a_leap_day_comes_in_leap_years() -> None:
    found = one("0 0 29 2 *", DAY)
    assert problem(found, at("2026-05-01T00:00")) is None
    assert opened(found, at("2027-01-01T00:00"), at("2028-01-01T00:00")) == []
    assert opened(found, at("2028-01-01T00:00"), at("2029-01-01T00:00")) == ["2028-02-29T00:00"]


# What wins over what.


def test_the_later_window_in_order_of_name_wins_limit_by_limit() -> None:
    found = spec(
        {
            "b": window("0 0 * * *", DAY, maxRunning=20, maxQueuedPerUser=7),
            "a": window("0 0 * * *", DAY, maxRunning=10, maxRunningPerUser=3),
        },
        maxRunning=1,
        maxRunningPerUser=1,
        maxQueuedPerUser=1,
    )
    now = in_force(found, at("2026-05-01T12:00"))
    assert now.open == ("a", "b")
    assert now.limits == Limits(max_running=20, max_running_per_user=3, max_queued_per_user=7)


def test_what_a_window_leaves_unset_stays_as_it_is() -> None:
    own: dict[str, Any] = {
        "maxRunning": 4,
        "maxRunningPerUser": 2,
        "maxQueuedPerUser": 9,
        "maxResources": {"cpu": "8"},
        "maxResourcesPerUser": {"cpu": "2"},
        "users": {"ann": {"maxRunning": 1, "weight": 2}},
    }
    found = spec({"w": window("0 0 * * *", DAY)}, **own)
    assert limits(found, "2026-05-01T12:00") == Limits.model_validate(own)


def test_zero_is_a_limit_and_not_the_lack_of_one() -> None:
    found = spec({"closed": window("0 0 * * *", DAY, maxRunning=0)})
    assert limits(found, "2026-05-01T12:00").max_running == 0


def test_a_window_can_limit_what_was_not_limited() -> None:
    found = spec({"w": window("0 0 * * *", HOUR, maxQueuedPerUser=5)})
    assert limits(found, "2026-05-01T00:30").max_queued_per_user == 5
    assert limits(found, "2026-05-01T01:30").max_queued_per_user is None


@pytest.mark.parametrize("key", ["maxResources", "maxResourcesPerUser"])
def test_resources_are_merged_by_name(key: str) -> None:
    found = spec(
        {
            "a": {**window("0 0 * * *", DAY), key: {"cpu": "16", "nvidia.com/gpu": "1"}},
            "b": {**window("0 0 * * *", DAY), key: {"nvidia.com/gpu": "2"}},
        },
        **{key: {"cpu": "8", "memory": "4Gi"}},
    )
    assert limits(found, "2026-05-01T12:00").to_dict()[key] == {
        "cpu": "16",
        "memory": "4Gi",
        "nvidia.com/gpu": "2",
    }


def test_users_are_merged_user_by_user_and_limit_by_limit() -> None:
    found = spec(
        {
            "a": window(
                "0 0 * * *",
                DAY,
                users={
                    "ann": {"maxRunning": 8, "maxResources": {"cpu": "4"}},
                    "bob": {"maxQueued": 3},
                },
            ),
            "b": window("0 0 * * *", DAY, users={"ann": {"weight": 5}, "bob": {"maxRunning": 0}}),
        },
        users={
            "ann": {"maxRunning": 1, "maxQueued": 2, "maxResources": {"cpu": "1", "memory": "1Gi"}},
            "eve": {"weight": 3},
        },
    )
    users = {n: u.to_dict() for n, u in limits(found, "2026-05-01T12:00").users.items()}
    assert users == {
        "ann": {
            "maxRunning": 8,
            "maxQueued": 2,
            "maxResources": {"cpu": "4", "memory": "1Gi"},
            "weight": 5,
        },
        "bob": {"maxRunning": 0, "maxQueued": 3, "maxResources": {}},
        "eve": {"maxResources": {}, "weight": 3},
    }


def test_merging_leaves_the_spec_as_it_was() -> None:
    layer: dict[str, Any] = {
        "maxResources": {"cpu": "9"},
        "users": {"ann": {"maxResources": {"cpu": "9"}}},
    }
    found = spec(
        {"w": window("0 0 * * *", DAY, **layer)},
        maxResources={"cpu": "1"},
        users={"ann": {"maxResources": {"cpu": "1"}}},
    )
    before = found.to_dict()
    in_force(found, at("2026-05-01T12:00"))
    assert found.to_dict() == before


def test_overrides_win_over_windows_and_among_each_other_by_name() -> None:
    found = spec(
        {"zz": window("0 0 * * *", DAY, maxRunning=20, maxRunningPerUser=20)},
        {
            "b": override("2026-06-01T00:00:00Z", maxRunning=40),
            "a": override("2026-06-01T00:00:00Z", maxRunning=30, maxQueuedPerUser=30),
        },
    )
    now = in_force(found, at("2026-05-01T12:00"))
    assert now.open == ("zz", "a", "b")
    assert now.limits == Limits(max_running=40, max_running_per_user=20, max_queued_per_user=30)


def test_an_override_starts_and_ends_exactly_and_goes_by_itself() -> None:
    found = spec(
        None,
        {"fair": override("2026-05-02T00:00:00+02:00", "2026-05-01T00:00:00Z", maxRunning=0)},
        maxRunning=4,
    )
    begin, end = at("2026-05-01T00:00"), at("2026-05-01T22:00")
    assert [
        (now.limits.max_running, now.open, now.until)
        for now in (in_force(found, m) for m in (begin - 0.001, begin, end - 0.001, end))
    ] == [(4, (), begin), (0, ("fair",), end), (0, ("fair",), end), (4, (), None)]


def test_an_override_without_a_start_holds_until_its_end() -> None:
    found = spec(None, {"o": override("2026-05-02T00:00:00Z", maxRunning=0)})
    assert in_force(found, at("2001-01-01T00:00")).open == ("o",)
    assert in_force(found, at("2026-05-02T00:00")).open == ()


# Days on which clocks change.


@pytest.mark.parametrize(
    ("zone", "day", "time", "opens"),
    [
        (AMSTERDAM, "2026-03-29", "02:30", "2026-03-29T01:00"),  # left out: right after it
        (AMSTERDAM, "2026-10-25", "02:30", "2026-10-25T00:30"),  # twice: the first time
        (NEW_YORK, "2026-03-08", "02:30", "2026-03-08T07:00"),
        (NEW_YORK, "2026-11-01", "02:30", "2026-11-01T07:30"),
        (NEW_YORK, "2026-11-01", "01:30", "2026-11-01T05:30"),
        (LORD_HOWE, "2026-10-04", "02:30", "2026-10-03T15:30"),
        (LORD_HOWE, "2026-10-04", "02:15", "2026-10-03T15:30"),
        (LORD_HOWE, "2026-04-05", "02:30", "2026-04-04T16:00"),
        (LORD_HOWE, "2026-04-05", "01:45", "2026-04-04T14:45"),
    ],
)
def test_a_nightly_window_opens_once_on_the_day_that_clocks_change(
    zone: str, day: str, time: str, opens: str
) -> None:
    hour, minute = time.split(":")
    found = one(f"{int(minute)} {int(hour)} * * *", 20 * MINUTE, zone)
    begin = at(f"{day}T00:00", zone)
    assert list(edges(found, begin, begin + DAY)) == [
        (opens, True),
        (utc(at(opens) + 20 * MINUTE), False),
    ]


@pytest.mark.parametrize(
    ("zone", "opens", "closes"),
    [
        (AMSTERDAM, "2026-03-29T01:00", "2026-03-29T06:00"),
        (AMSTERDAM, "2026-10-25T01:00", "2026-10-25T04:00"),
        (LORD_HOWE, "2026-10-04T01:00", "2026-10-04T05:30"),
        (LORD_HOWE, "2026-04-05T01:00", "2026-04-05T04:30"),
    ],
)
def test_a_duration_is_what_passes_and_not_what_the_clock_shows(
    zone: str, opens: str, closes: str
) -> None:
    begin, end = at(opens, zone), at(closes, zone)
    assert list(edges(one("0 1 * * *", 4 * HOUR, zone), begin - 1, end + 1)) == [
        (utc(begin), True),
        (utc(end), False),
    ]


@pytest.mark.parametrize(
    ("zone", "first", "again"),
    [
        (AMSTERDAM, "2026-10-25T02:30", "2026-10-25T02:10"),
        (NEW_YORK, "2026-11-01T01:30", "2026-11-01T01:10"),
        (LORD_HOWE, "2026-04-05T01:45", "2026-04-05T01:35"),
    ],
)
def test_what_opened_before_the_clock_went_back_is_open_when_it_shows_an_earlier_time_again(
    zone: str, first: str, again: str
) -> None:
    fire = datetime.fromisoformat(first)
    found = one(f"{fire.minute} {fire.hour} * * *", HOUR, zone)
    now = in_force(found, at(again, zone, fold=1))
    assert (now.open, now.until) == (("w",), at(first, zone) + HOUR)


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_until_is_never_in_the_past_when_the_clock_goes_back(zone: str, change: str) -> None:
    found = one("15,45 0-3 * * *", MINUTE, zone)
    for moment in range(int(at(change)) - 2 * HOUR, int(at(change)) + 2 * HOUR, 5 * MINUTE):
        until = in_force(found, moment).until
        assert until is not None
        assert until > moment


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_a_window_of_every_minute_or_hour_takes_no_notice_of_the_clock(
    zone: str, change: str
) -> None:
    begin, end = at(change) - 3 * HOUR, at(change) + 3 * HOUR
    assert not list(edges(one("* * * * *", MINUTE, zone), begin, end))
    assert not list(edges(one("*/15 * * * *", 15 * MINUTE, zone), begin, end))


def test_an_hourly_window_opens_again_in_the_hour_that_comes_twice() -> None:
    begin, end = at("2026-10-25T01:00", AMSTERDAM), at("2026-10-25T03:30", AMSTERDAM)
    assert opened(one("15 * * * *", MINUTE, AMSTERDAM), begin, end) == [
        "2026-10-24T23:15",
        "2026-10-25T00:15",
        "2026-10-25T01:15",
        "2026-10-25T02:15",
    ]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(CHANGES), schedules, durations, distances)
@example((LORD_HOWE, "2026-04-04T15:00"), "45 * * * *", MINUTE, -16 * MINUTE)
@example((LORD_HOWE, "2026-10-03T15:30"), "*/15 3 * * *", MINUTE, -HOUR)
@example((LORD_HOWE, "2026-04-04T15:00"), "*/15 0 * * *", MINUTE, HOUR)
@example(("America/Havana", "2026-03-08T05:00"), "*/15 0 * * *", MINUTE, HOUR)
def test_a_window_is_open_when_going_forward_from_long_before_says_so(
    change: tuple[str, str], schedule: str, seconds: int, distance: int
) -> None:
    zone, turn = change[0], at(change[1])
    moment = turn + distance
    fires = openings(schedule, zone, turn - 7 * DAY, turn + 7 * DAY)
    last = max((f for f in fires if f <= moment), default=-math.inf)
    following = min((f for f in fires if f > moment), default=math.inf)
    end = last + seconds
    now = in_force(one(schedule, seconds, zone), moment)
    assert now.open == (("w",) if moment < end else ())
    assert now.until is not None
    expected = min(following, end if moment < end else math.inf)
    if math.isinf(expected):
        assert now.until >= turn + 7 * DAY
    else:
        assert utc(now.until) == utc(expected)
        assert now.until == expected


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([c for c in CHANGES if c[0] in (AMSTERDAM, NEW_YORK)]), schedules)
def test_around_a_whole_hours_change_cronsim_with_the_zone_says_the_same(
    change: tuple[str, str], schedule: str
) -> None:
    begin, end = at(change[1]) - 2 * DAY, at(change[1]) + 2 * DAY
    moment, found = begin, []
    while (until := in_force(one(schedule, MINUTE, change[0]), moment).until) and until < end:
        moment = until
        found.append(until)
        assume(len(found) < 500)
    fires = {fire.timestamp() for fire in forward(schedule, begin, end, change[0])}
    assert fires - set(found) == set()
    ends = {fire + MINUTE for fire in fires} | {begin + MINUTE}
    assert set(found) - fires <= ends


@st.composite
def specs(draw: st.DrawFn, zone: str, turn: float) -> QuotaSpec:
    windows = {
        name: window(draw(schedules), draw(durations), zone, maxRunning=number)
        for number, name in enumerate(draw(st.sets(st.sampled_from("abc"))))
    }
    overrides = {}
    for number, name in enumerate(draw(st.sets(st.sampled_from("xy")))):
        begin, end = sorted(turn + 60 * m for m in draw(st.tuples(*[st.integers(-500, 500)] * 2)))
        overrides[name] = override(rfc3339(end + 1), rfc3339(begin), maxRunning=100 + number)
    return spec(windows, overrides)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(CHANGES), distances, st.floats(0, 1, exclude_max=True))
def test_nothing_changes_before_until_and_then_something_may(
    data: st.DataObject, change: tuple[str, str], distance: int, fraction: float
) -> None:
    zone, turn = change[0], at(change[1])
    found = data.draw(specs(zone, turn))
    moment = turn + distance + fraction
    now = in_force(found, moment)
    if now.until is None:
        assert in_force(found, moment + 1000 * DAY) == now
        return
    assert now.until > moment
    between = data.draw(st.lists(st.floats(moment, now.until, exclude_max=True), max_size=5))
    for later in (*between, math.nextafter(now.until, 0)):
        assert in_force(found, later) == now
    after = in_force(found, now.until)
    reopened = {
        name
        for name, w in found.windows.items()
        if now.until in openings(w.schedule, zone, now.until - DAY, now.until + DAY)
    }
    assert after.open != now.open or reopened & set(after.open)


# What is wrong with a spec.

NOW = at("2026-05-01T00:00")


@pytest.mark.parametrize(
    "schedule",
    [
        "0 0 30 2 *",
        "0 0 31 2,4,6 *",
        "0 0 */31 * 1#5",  # the first day of a month that is its fifth Monday too
        "0 0 */31 2 1L",
    ],
)
def test_a_day_that_never_comes_is_a_problem(schedule: str) -> None:
    found = problem(spec({"ok": window("0 0 * * *"), "w": window(schedule)}), NOW)
    assert found is not None
    assert found[0] == "spec.windows.w.schedule"
    assert schedule in found[1]


def test_seconds_are_no_field_of_cron() -> None:
    found = problem(one("30 0 0 * * *"), NOW)
    assert found is not None
    assert found[1] == "'30 0 0 * * *' has more fields than the 5 of cron."


@pytest.mark.parametrize(
    "schedule",
    ["0 0 29 2 1#5", "0 0 29 2 MON", "0 0 */29 2 MON", "0 0 * 2 1#5", "0 0 L * 1#5", "0 0 LW 2 *"],
)
def test_a_day_that_comes_seldom_is_none(schedule: str) -> None:
    assert problem(one(schedule), NOW) is None
    until = in_force(one(schedule), NOW).until
    assert until is not None
    assert in_force(one(schedule), until).open == ("w",)


@pytest.mark.parametrize(
    "schedule",
    [
        "never",
        "* * * *",
        "60 * * * *",
        "* 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "1,,2 * * * *",
        "@daily",
        " ",
        "0 0 * * 1#6",
        "-1 0 * * *",
    ],
)
def test_bad_cron_is_a_problem(schedule: str) -> None:
    found = problem(one(schedule), NOW)
    assert found is not None
    assert found[0] == "spec.windows.w.schedule"
    assert repr(schedule) in found[1]


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789*/-,#L? WSUNMO", min_size=1, max_size=24).filter(str.strip))
@example("0 0 * * ²L")
@example("0 0 L/2 * *")
@example("0 0 L-3 * *")
@example("٣ 0 * * *")
def test_any_schedule_is_either_a_problem_or_of_use(schedule: str) -> None:
    found = problem(one(schedule), NOW)
    if found is None:
        until = in_force(one(schedule), NOW).until
        assert until is not None
        assert until > NOW
    else:
        assert found[0] == "spec.windows.w.schedule"


@pytest.mark.parametrize(
    "zone",
    [
        "Europe/Nowhere",
        "Europe",
        "Europe/",
        "../etc/passwd",
        "/etc/passwd",
        "",
        ".",
        "a\x00b",
        "Europe/../Europe/Paris",
        "tzdata.zi",
        "zone.tab",
        "__init__.py",
        "a.b/c",
        "é",
    ],
)
def test_an_unknown_zone_is_a_problem(zone: str) -> None:
    found = problem(spec({"night": window("0 0 * * *", zone=zone)}), NOW)
    assert found is not None
    assert found[0] == "spec.windows.night.timeZone"
    assert repr(zone) in found[1]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=64))
def test_no_zone_raises(zone: str) -> None:
    found = problem(one("0 0 * * *", zone=zone), NOW)
    assert found is None or found[0] == "spec.windows.w.timeZone"


@pytest.mark.parametrize(
    ("ends", "starts", "field"),
    [
        ("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z", "spec.overrides.o.endsAt"),
        ("2026-05-01T00:00:00Z", "2026-05-01T00:00:00Z", "spec.overrides.o.endsAt"),
        ("2026-05-01T00:00:00+02:00", "2026-04-30T23:00:00Z", "spec.overrides.o.endsAt"),
        ("2026-05-01T00:00:00", None, "spec.overrides.o"),
        ("2026-05-01T00:00:00Z", "2026-04-01T00:00:00", "spec.overrides.o"),
        ("2026-05-01", None, "spec.overrides.o"),
        ("2026-02-30T00:00:00Z", None, "spec.overrides.o"),
        ("tomorrow", None, "spec.overrides.o"),
        ("", None, "spec.overrides.o"),
    ],
)
def test_an_override_needs_two_times_in_order_and_with_a_zone(
    ends: str, starts: str | None, field: str
) -> None:
    found = problem(spec(None, {"o": override(ends, starts)}), NOW)
    assert found is not None
    assert found[0] == field


@pytest.mark.parametrize(
    ("ends", "starts"),
    [
        ("2026-05-01T00:00:01Z", "2026-05-01T00:00:00Z"),
        ("2026-05-01T00:00:00Z", None),  # over, and still right
        ("2026-05-01T00:00:00.5+02:00", "2026-05-01T00:00:00+02:00"),
        ("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"),
    ],
)
def test_right_overrides_are_no_problem(ends: str, starts: str | None) -> None:
    found = spec(None, {"o": override(ends, starts)})
    assert problem(found, NOW) is None
    in_force(found, NOW)


def test_the_first_problem_in_order_of_name_is_told() -> None:
    found = spec(
        {"b": window("bad"), "a": window("bad", zone="bad")}, {"o": override("2026-05-01")}
    )
    assert problem(found, NOW) == ("spec.windows.a.timeZone", "There is no time zone 'bad'.")


def test_a_right_spec_has_no_problem() -> None:
    assert problem(spec(), NOW) is None
    assert problem(spec({"w": window("30 2 * * MON-FRI", zone=AMSTERDAM)}), NOW) is None


@pytest.mark.parametrize(
    ("windows", "overrides"),
    [
        ({"w": window("bad", maxRunning=7)}, None),
        ({"w": window("* * * * *", zone="bad", maxRunning=7)}, None),
        (None, {"o": override("2026-06-30T23:59:60Z", maxRunning=7)}),
    ],
)
def test_what_can_be_read_no_more_does_not_count(windows: Any, overrides: Any) -> None:
    """Found by fuzzing: one such quota in force ended every pass of the operator, and uploads in 500."""
    right = {"x": window("* * * * *", maxRunningPerUser=1)}
    found = in_force(spec({**(windows or {}), **right}, overrides), NOW)
    assert (found.open, found.limits.max_running) == (("x",), 10)


def test_moments_are_counted_from_1970_whatever_the_zone() -> None:
    found = one("0 0 1 5 *", zone=AMSTERDAM)
    assert opened(found, at("2026-01-01T00:00"), NOW) == ["2026-04-30T22:00"]
