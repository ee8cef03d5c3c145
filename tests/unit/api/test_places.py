"""What one caller may hold of what all share: places for large uploads, uploads, downloads."""

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator_api.dependencies import find_job
from orchestrator_api.errors import JobNotFound, TooManyRequests, Unavailable
from orchestrator_api.identity import rates
from orchestrator_api.identity.door import (
    LOOKUPS_OF_A_USER,
    LOOKUPS_OF_MANY,
    MOST_LOOKUPS,
    Door,
    IdentitySettings,
)
from orchestrator_api.identity.principals import Principal
from orchestrator_api.identity.rates import NO_LIMITS, Most, Rates
from orchestrator_api.pacing import LONGEST_SLEEP_SECONDS, WORK_SECONDS_PER_BYTE, Turn, Turns
from orchestrator_api.places import Places, Seat
from orchestrator_api.submit import LARGE_AT_ONCE
from orchestrator_wire.uploads import SMALL_BYTES
from tests.support.builders import service_body
from tests.support.system import System
from tests.unit.api.test_identity import a_file, bearer


async def taken(places: Places, *who: tuple[str, str]) -> tuple[list[bool], list[Seat], list[Any]]:
    """Have each (caller, user) ask for a place; returns who has one, all seats, and the waits."""
    seats, tasks = [], []
    for caller, user in who:
        seat = places.of(caller)
        seat.fields = {"user_id": user} if user else {}
        seats.append(seat)
        tasks.append(asyncio.create_task(seat.acquire()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return [task.done() for task in tasks], seats, tasks


@pytest.mark.parametrize(
    ("who", "have"),
    [
        ([("portal", "1")] * 8, 2),
        ([("portal", "")] * 8, 4),
        ([("portal", str(n)) for n in range(9)], 6),
        ([("a", "1")] * 8 + [("b", "1")] * 8, 4),
        ([("a", str(n // 2)) for n in range(8)] + [("b", "1")], 7),
    ],
    ids=["one user", "users that are not told", "one caller", "two callers", "users of one"],
)
async def test_nobody_holds_more_than_a_share(who: list[tuple[str, str]], have: int) -> None:
    done, _, tasks = await taken(Places(8), *who)
    assert sum(done) == have
    for task in tasks:
        task.cancel()


async def test_who_waits_comes_in_order_and_passes_those_who_have_their_share() -> None:
    places = Places(8)
    greedy = [("evil", "1")] * 6
    done, seats, tasks = await taken(
        places, *greedy, ("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"), ("c", "1"), ("d", "1")
    )
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True] * 2 + [False] * 4 + [True] * 6
    done, late, waits = await taken(places, ("e", "1"), ("f", "1"))
    assert done == [False, False]
    seats[6].release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [wait.done() for wait in waits] == [True, False]
    # Who goes away while it waits, or just as it is called, takes no place with it.
    waits[1].cancel()
    seats[0].release()
    tasks[2].cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in tasks[2:6]] == [True, True, False, False]
    for task in tasks[4:6]:
        task.cancel()
    await asyncio.sleep(0)
    for seat in (seats[1], seats[3], *seats[7:], late[0]):
        seat.release()
    again = [(name, user) for name in "xy" for user in "12"] * 2
    assert all((await taken(places, *again))[0])


async def test_of_two_callers_one_cannot_keep_the_other_from_uploading(
    system: System, tmp_path: Path
) -> None:
    """One caller held all eight places with bodies that came slowly, and everybody else waited."""
    object.__setattr__(
        system.context, "door", Door(IdentitySettings(api_keys_file=str(a_file(tmp_path))))
    )
    system.kube.put("orchestratorservices", service_body(inputs={"maxBytes": 10 * SMALL_BYTES}))
    await asyncio.sleep(0.05)
    end = asyncio.Event()

    async def slow() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="user_id"\r\n\r\n2\r\n'
        yield b'--x\r\nContent-Disposition: form-data; name="f"; filename="run.sh"\r\n\r\n'
        yield bytes(2 * SMALL_BYTES)
        await end.wait()

    kind = {"Content-Type": "multipart/form-data; boundary=x", **bearer("two")}
    evil = [
        asyncio.create_task(system.rest.post("/upload", content=slow(), headers=kind))
        for _ in range(2 * LARGE_AT_ONCE)
    ]
    await asyncio.sleep(0.1)
    assert sum(task.done() for task in evil) == LARGE_AT_ONCE, "uploadsAtOnce refuses the rest"
    honest = await system.rest.post(
        "/upload",
        data={"user_id": "1", "service": "example"},
        files=[("file", ("run.sh", bytes(3 * SMALL_BYTES)))],
        headers=bearer("one"),
    )
    assert honest.status_code == 201
    end.set()
    assert {(await task).status_code for task in evil} == {400, 429}


def test_all_together_are_a_crowd_of_which_one_caller_is_at_most_three_quarters() -> None:
    with ExitStack() as held:
        found = Rates(NO_LIMITS)
        for _ in range(rates.UPLOADS * 3 // 4):
            held.enter_context(found.uploading("a"))
        with pytest.raises(TooManyRequests):
            held.enter_context(found.uploading("a"))
        for _ in range(rates.UPLOADS // 4):
            held.enter_context(found.uploading("b"))
        with pytest.raises(Unavailable):
            held.enter_context(found.uploading("c"))
        held.enter_context(found.downloading("a"))
    with found.uploading("c"):
        pass
    few = Rates(Most(uploads_at_once=1))
    with few.uploading("a"), pytest.raises(TooManyRequests):
        few.uploading("a").__enter__()


async def test_a_download_holds_a_place_until_it_has_been_sent(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    await system.upload()
    seen: list[int] = []
    crowd = system.context.door.rates._downloads
    read = system.context.store.read

    async def reading(*arguments: Any, **named: Any) -> Any:
        head, pieces = await read(*arguments, **named)

        async def watched() -> Any:
            async for piece in pieces:
                seen.append(crowd._inside.total())
                yield piece

        return head, watched()

    monkeypatch.setattr(system.context.store, "read", reading)
    assert (await system.rest.get("/download_partial/1")).status_code == 200
    assert set(seen) == {1}
    assert crowd._inside.total() == 0
    monkeypatch.setattr(crowd, "_size", 1)
    answer = await system.rest.get("/download_partial/1")
    assert answer.status_code == 429
    assert (await system.rest.head("/download_partial/1")).status_code == 200


async def test_one_caller_looks_up_few_unknown_jobs_at_once(tmp_path: Path) -> None:
    """Fifty of every second's polls for jobs that are not there came at once, and cost all others."""
    under_way, most = 0, 0

    class Slow:
        def known(self, _: int) -> None:
            return None

        async def find(self, *_: object) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.01)
            under_way -= 1

    def ask(door: Door, known: Principal) -> Any:
        return find_job(SimpleNamespace(jobs=Slow(), door=door), known, 1)  # type: ignore[arg-type]

    keys = Door(IdentitySettings(api_keys_file=str(a_file(tmp_path))))
    one, two = (Principal(name, {name}, None) for name in ("one", "two"))
    portal = Principal("portal", None, None)
    for door, callers, expected in (
        (keys, [one], LOOKUPS_OF_A_USER), (keys, [one, two], 2 * LOOKUPS_OF_A_USER),
        (keys, [portal], LOOKUPS_OF_MANY), (Door(IdentitySettings()), [one], 20),
    ):  # fmt: skip
        most = 0
        asked = [ask(door, caller) for caller in callers for _ in range(20)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {JobNotFound}
        assert most == expected
    # While Kubernetes hangs, they do not fill the server up.
    asked = [ask(keys, one) for _ in range(MOST_LOOKUPS + 10)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers].count(TooManyRequests) == 10


@pytest.mark.parametrize(("in_turn", "share"), [(True, 1), (False, 20)])
async def test_who_sends_many_bodies_has_them_wait_for_each_other(
    in_turn: bool, share: int
) -> None:
    """Twenty uploads of one caller had each upload of the others wait for twenty pieces."""
    turns, taken_in, honest_left = Turns(), 0, 200

    async def endless() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield b"x"

    async def evil(number: int) -> None:
        nonlocal taken_in
        async for _ in turns.of("evil" if in_turn else f"evil {number}", endless()):
            taken_in += 1

    greedy = [asyncio.create_task(evil(number)) for number in range(20)]
    async for _ in turns.of("honest", endless()):
        honest_left -= 1
        if not honest_left:
            break
    for task in greedy:
        task.cancel()
    await asyncio.gather(*greedy, return_exceptions=True)
    assert 0.5 * share < taken_in / 200 < 2 * share


@pytest.mark.parametrize(
    ("others", "size", "least", "most"),
    [(5, 2 * SMALL_BYTES, 0.02, 0.2), (0, 2 * SMALL_BYTES, 0.25, 0.6), (5, 1, 0.25, 0.6)],
    ids=["large", "nobody else is there", "small"],
)
async def test_who_sends_large_bodies_gives_way_to_all_others(
    others: int, size: int, least: float, most: float
) -> None:
    """Eight bodies of one caller had a third of the time, and all polls waited for each piece."""
    turns, spent, over = Turns(lambda: 0.0), Counter[str](), False
    for name in ["evil", *map(str, range(others))]:
        turns.saw(name)

    def work(whose: str) -> None:
        time.sleep(0.001)
        spent[whose] += 1

    async def body() -> AsyncIterator[bytes]:
        yield bytes(size)
        while size > 1 and not over:
            await asyncio.sleep(0)
            yield b"x"

    async def evil() -> None:
        while not over:
            async for _ in turns.of("evil", body()):
                work("evil")

    tasks = [asyncio.create_task(evil()) for _ in range(8)]
    while spent["others"] < 1000:
        work("others")
        await asyncio.sleep(0)
    over = True
    await asyncio.gather(*tasks)
    assert least < spent["evil"] / spent.total() < most


@pytest.mark.parametrize(
    ("others", "work", "least", "most"),
    [(5, 0.02, 1.0, 9.0), (5, 0.0, 0.0, 0.3), (0, 0.02, 0.0, 0.3)],
)
async def test_others_get_as_long_as_a_piece_takes_once_it_is_passed_on(
    others: int, work: float, least: float, most: float
) -> None:
    """That was not counted: what a piece costs comes behind its turn, and not before."""
    turn, began = Turn(), time.monotonic()
    for _ in range(20):
        await turn.give_way(others, work)
    assert least <= time.monotonic() - began < most


@pytest.mark.parametrize(("size", "gives_way"), [(3 * SMALL_BYTES, True), (1000, False)])
async def test_downloads_give_way_as_uploads_do(
    system: System, monkeypatch: pytest.MonkeyPatch, size: int, gives_way: bool
) -> None:
    """Thirty of one caller at once had all others' polls and uploads take forty times as long."""
    system.kube.put("orchestratorservices", service_body(inputs={"maxBytes": 2 * size}))
    while system.context.services.largest_upload != 2 * size:
        await asyncio.sleep(0.005)
    files = [("file", ("run.sh", b"exit 0")), ("file", ("data", random.randbytes(size)))]
    assert (await system.upload(files)).status_code == 201
    passed_on = 0.0

    async def give_way(_turn: Turn, _others: int, work: float) -> None:
        nonlocal passed_on
        passed_on += work / WORK_SECONDS_PER_BYTE

    monkeypatch.setattr(Turn, "give_way", give_way)
    answer = await system.rest.get("/download_partial/1")
    assert len(answer.content) > size
    assert passed_on > (size - SMALL_BYTES) / 2 if gives_way else not passed_on


def test_who_asked_for_something_is_there_for_a_while() -> None:
    now = 0.0
    turns = Turns(lambda: now)
    for moment, name in ((0.0, "a"), (1.0, "b"), (1.5, "a"), (2.0, "c")):
        now = moment
        turns.saw(name)
    assert (turns.others("a"), turns.others("new")) == (2, 3)
    now = 3.4
    assert (turns.others("a"), turns.others("b")) == (1, 2)
    now = 9.0
    assert turns.others("b") == 0


class Clock:
    """Time that passes in sleep alone, and who is there meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.turns = 0.0, Turns(lambda: self.now)
        self.others: list[str] = []
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        for name in self.others:
            self.turns.saw(name)

    async def jobs(self, caller: str, count: int) -> float:
        """Make so many jobs one after the other; returns how many seconds that took."""
        began = self.now
        for _ in range(count):
            await self.turns.job(caller)
        return self.now - began


async def test_while_others_are_there_a_user_makes_jobs_at_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fifty small uploads a second of one user had each of ten others take three times as long."""
    clock = Clock(monkeypatch)
    assert await clock.jobs("evil", 1000) == 0
    clock.others = [f"{number}" for number in range(10)]
    await clock.sleep(0)
    # What it had not used for two seconds, and then an eleventh of fifty in a second.
    assert await clock.jobs("evil", 9) == 0
    assert await clock.jobs("evil", 100) == pytest.approx(100 / (50 / 11), abs=0.1)
    assert await clock.jobs("0", 1) == 0
    # Who is slower than that waits for nothing, however long it goes on.
    for _ in range(50):
        await clock.sleep(0.23)
        assert await clock.jobs("somebody", 1) == 0


async def test_who_has_submitted_what_it_may_for_two_seconds_is_refused_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what it waits for is not forgotten, as it was two seconds after the last request."""
    clock = Clock(monkeypatch)
    clock.others = [f"{number}" for number in range(10)]
    await clock.sleep(0)
    turn, waits = clock.turns._turn("evil"), []
    with pytest.raises(TooManyRequests):
        while True:
            waits.append(turn.job_in(clock.now, 10))
    assert len(waits) == 18
    assert 1.7 < waits[-1] <= 2
    del turn
    # As if the last of them had waited for all that time.
    monkeypatch.setattr("orchestrator_api.pacing.Turn.job_in", lambda *_: 2.5)
    await clock.turns.job("evil")
    gc.collect()
    assert "evil" in clock.turns._turns


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give how long each sleep is, in seconds, as they come."""
    found: list[float] = []
    sleep = asyncio.sleep

    async def asleep(seconds: float) -> None:
        found.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", asleep)
    return found


async def test_who_sends_something_large_now_and_then_gives_way_to_nobody(
    monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    """Honest users' uploads of half a megabyte waited for all others, as a flood does."""

    async def around(_: Turn) -> float:
        return 0.001

    async def body(pieces: int) -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield bytes(SMALL_BYTES // 2)

    turns = Turns()
    monkeypatch.setattr(Turn, "wait", around)
    for number in range(10):
        turns.saw(f"{number}")
    for pieces, waits in ((8, False), (30, True)):
        async for _ in turns.of("somebody", body(pieces)):
            pass
        assert any(slept) == waits


async def test_what_was_owed_to_others_is_soon_forgotten_when_they_have_gone(
    slept: list[float],
) -> None:
    now = 0.0

    def work() -> None:
        time.sleep(0.05)

    async def working() -> None:
        while True:
            work()
            await asyncio.sleep(0)

    async def body() -> AsyncIterator[bytes]:
        nonlocal now
        for number in range(20):
            if number == 10:
                now = 100.0
                slept.clear()
            yield bytes(2 * SMALL_BYTES)

    turns, busy = Turns(lambda: now), asyncio.create_task(working())
    for number in range(10):
        turns.saw(f"{number}")
    async for _ in turns.of("somebody", body()):
        pass
    busy.cancel()
    assert sum(slept) < 2 * LONGEST_SLEEP_SECONDS


async def test_users_jobs_are_made_at_a_pace_and_those_of_who_speaks_for_many_are_not(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Door(IdentitySettings(api_keys_file=str(a_file(tmp_path))))
    object.__setattr__(system.context, "door", keys)
    asked: list[str] = []

    async def job(caller: str) -> None:
        asked.append(caller)
        if len(asked) > 1:
            raise TooManyRequests("too many")

    monkeypatch.setattr(system.context.submissions.turns, "job", job)
    for who, status in (("one", 201), ("one", 429), ("admin", 201)):
        answer = await system.rest.post(
            "/upload",
            data={"user_id": "1", "service": "example"},
            files=[("file", ("run.sh", b"true"))],
            headers=bearer(who),
        )
        assert answer.status_code == status
    assert asked == ["one", "one"]


async def test_every_request_shows_who_is_there(system: System) -> None:
    assert system.context.submissions.turns.others("somebody else") == 0
    await system.rest.get("/download/1")
    assert system.context.submissions.turns.others("somebody else") == 1
