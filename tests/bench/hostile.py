"""One attacker beside ten honest users: `hack/python -m tests.bench.hostile [ROUNDS] [WORD...]`.

Needs the cluster of hack/up. Everybody has an API key. The honest upload now and then, files that are
small and ones that are not, and poll; measured is their p99 of upload → 201 and of a poll, beside each
attack and as a ratio of the same alone just before; told is the ratio of all rounds' requests together,
the range of the single rounds', and how often the attacker was answered what. The aim is at most 2. The
attacker's own process gives way to all others, and the honest clients' comes before: they stand for some
on other machines. A WORD is a part of an attack's name, if not all are wanted, or a setting of the chart,
as `helm --set` takes it.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp

from local.paths import API_IP, NAMESPACE, RELEASE
from tests.cluster.keys import asked, bearer, key
from tests.cluster.place import Place, until
from tests.cluster.test_life import SMALL, service

ROUNDS, SECONDS, REST_SECONDS = 3, 24.0, 2.0
# Not by the front door of hack/up, which is one process that all would wait for.
DOOR = f"http://{API_IP}:5000"
HONEST = [str(970 + n) for n in range(10)]
MALLORY = "989"
SECRET, QUOTA, SUBMITTER = "bench-keys", "bench-hostile", "mallory"
POLLS, PAUSE_SECONDS = 5, 0.15
FILES = (b"ATOM  " * 200, bytes(600_000))
CPUS = os.sched_getaffinity(0)
# Of jobs, where they are to be on a node of their own: half of them.
OF_JOBS = set(sorted(CPUS)[len(CPUS) // 2 :])
# Requests of a connection before the first answer.
AHEAD = 60
# What the attacker was answered, how often.
DONE: Counter[str] = Counter()
BURNS = "while :; do :; done & while :; do :; done & wait"


def form(user: str, data: bytes, where: str = "example") -> aiohttp.FormData:
    found = aiohttp.FormData({"user_id": user, "service": where})
    found.add_field("file", b"exit 0\n", filename="run.sh")
    found.add_field("file", data, filename="data")
    return found


async def honest(user: str, took: dict[str, list[float]], until_then: float) -> None:
    """Upload and poll as a user does, at no one else's pace, until a moment."""
    pause = random.Random(user)
    await asyncio.sleep(pause.uniform(0, POLLS * PAUSE_SECONDS))
    async with aiohttp.ClientSession(DOOR, headers=bearer(user)) as session:
        for turn in range(10_000):
            if time.monotonic() > until_then:
                return
            started = time.perf_counter()
            async with session.post("/upload", data=form(user, FILES[turn % 2])) as answer:
                body = await answer.json()
                assert answer.status == 201, body
            took["upload"].append(time.perf_counter() - started)
            for _ in range(POLLS):
                await asyncio.sleep(PAUSE_SECONDS * pause.uniform(0.5, 1.5))
                started = time.perf_counter()
                async with session.get(f"/download/{body['id']}") as answer:
                    assert answer.status == 200
                    await answer.read()
                took["poll"].append(time.perf_counter() - started)


async def crowd() -> dict[str, list[float]]:
    took: dict[str, list[float]] = {"upload": [], "poll": []}
    end = time.monotonic() + SECONDS
    await asyncio.gather(*(honest(user, took, end) for user in HONEST))
    return took


async def for_ever(one: Callable[[aiohttp.ClientSession], Awaitable[int]], at_once: int) -> None:
    """Do the same thing again and again, whatever is answered; *one* returns the status."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(DOOR, headers=bearer(MALLORY), connector=connector) as session:

        async def worker() -> None:
            while True:
                try:
                    DONE[str(await one(session))] += 1
                except (aiohttp.ClientError, OSError):
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(worker() for _ in range(at_once)))


async def uploads(session: aiohttp.ClientSession, size: int = 5_000_000) -> int:
    async with session.post("/upload", data=form(MALLORY, bytes(size))) as answer:
        await answer.read()
    return answer.status


async def small_uploads(session: aiohttp.ClientSession) -> int:
    return await uploads(session, 250_000)


async def slow_bodies(session: aiohttp.ClientSession) -> int:
    async def body() -> object:
        head = '--x\r\nContent-Disposition: form-data; name="f"; filename="run.sh"\r\n\r\n'
        yield head.encode() + bytes(400_000)
        while True:
            await asyncio.sleep(0.5)
            yield bytes(20_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with session.post("/upload", data=body(), headers=headers) as answer:
        await answer.read()
    return answer.status


async def polls(session: aiohttp.ClientSession) -> int:
    async with session.get("/v1/jobs/1/explain") as answer:
        await answer.read()
    return answer.status


async def without_a_key(session: aiohttp.ClientSession) -> int:
    async with session.post("/upload", data=bytes(200_000), headers=bearer("false")) as answer:
        await answer.read()
    return answer.status


async def bodies_after_their_answers() -> None:
    """Send what needs a key, and the whole body when that is refused already."""
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"

    async def send() -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                source, writer = await asyncio.open_connection(API_IP, 5000)
                writer.write(
                    b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                DONE[(await source.readuntil()).split()[1].decode()] += 1
                while True:  # until the server has enough of it
                    writer.write(chunk)
                    await writer.drain()
                    DONE["MiB"] += 1

    await asyncio.gather(*(send() for _ in range(32)))


async def without_a_key_ahead() -> None:
    """Ask for what needs a key, over many connections and many times before the first answer."""
    request = b"GET /download/1 HTTP/1.1\r\nHost: x\r\n\r\n" * AHEAD

    async def ask() -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                source, writer = await asyncio.open_connection(API_IP, 5000)
                while not source.at_eof():
                    writer.write(request)
                    for _ in range(AHEAD):
                        head = await source.readuntil(b"\r\n\r\n")
                        length = head.lower().partition(b"content-length:")[2].split()[0]
                        await source.readexactly(int(length))
                        DONE[head.split()[1].decode()] += 1

    await asyncio.gather(*(ask() for _ in range(128)))


async def connections() -> None:
    """Connect, say what is no request, and connect again."""

    async def again() -> None:
        while True:
            with suppress(OSError):
                source, writer = await asyncio.open_connection(API_IP, 5000)
                writer.write(b"rubbish\r\n\r\n")
                DONE[(await source.read(12))[-3:].decode()] += 1
                writer.transport.abort()

    await asyncio.gather(*(again() for _ in range(128)))


def manifests() -> None:
    """Make jobs with kubectl, as fast as it goes."""
    place, number = Place(), 0
    while True:
        items = [
            {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "OrchestratorJob",
             "metadata": {"name": f"flood-{os.getpid()}-{number + n}"},
             "spec": {"service": "example", "userID": SUBMITTER, "script": "true"}}
            for n in range(100)
        ]  # fmt: skip
        number += 100
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        place.kubectl("create", "--filename=-", f"--as={SUBMITTER}", stdin=text, check=False)
        DONE["created"] += 100


ASK = 'while one.sendall(b"GET /canary HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n") or one.recv(65536): pass'


def at_the_gateway(deed: str) -> str:
    """Return a script that does what needs no token, over as many connections as it may have."""
    service = Place().get("service", "orchestrator-gateway", NAMESPACE)
    return f"""exec python3 - <<'END'
import socket, threading

def again():
    while True:
        try:
            with socket.create_connection(("{service["spec"]["clusterIP"]}", 8081), 5) as one:
                {deed}
        except OSError:
            pass

for _ in range(100):
    threading.Thread(target=again).start()
END
"""


def submit(script: str) -> int:
    """Have a job do it; returns its number."""
    answer = subprocess.run(
        ["curl", "-sf", "-H", f"Authorization: Bearer {key(MALLORY)}", "-F", "file=@-;filename=run.sh",
         "-F", f"user_id={MALLORY}", "-F", "service=burns", f"{DOOR}/upload"],
        input=script.encode(), check=True, capture_output=True,
    )  # fmt: skip
    return int(json.loads(answer.stdout)["id"])


def run(script: str) -> None:
    """Have a job do it, and nothing else."""
    DONE[f"job {submit(script)}"] = 1
    time.sleep(600)


def downloads(size: int = 50_000_000) -> None:
    """Fetch a result again and again, many times at once."""
    number = submit(f"head -c {size} /dev/urandom > large; sync large")
    until(lambda: came_to("Completed"), "the attacker's job is done", 60)

    async def one(session: aiohttp.ClientSession) -> int:
        async with session.get(f"/download/{number}") as answer:
            async for data in answer.content.iter_any():
                DONE["bytes"] += len(data)
        return answer.status

    asyncio.run(for_ever(one, 32))


def came_to(phase: str) -> bool:
    """Return whether a job of the attacker's is in this phase."""
    selector = f"--field-selector=spec.userID={MALLORY},status.phase={phase}"
    return bool(Place().kubectl("get", "orchestratorjobs", selector, "-oname"))


ATTACKS: dict[str, Callable[[], object]] = {
    "uploads without end": lambda: asyncio.run(for_ever(uploads, 32)),
    "small uploads without end": lambda: asyncio.run(for_ever(small_uploads, 32)),
    "bodies that come slowly": lambda: asyncio.run(for_ever(slow_bodies, 32)),
    "downloads without end": downloads,
    "small downloads without end": lambda: downloads(1000),
    "polls without end": lambda: asyncio.run(for_ever(polls, 32)),
    "uploads without a key": lambda: asyncio.run(for_ever(without_a_key, 32)),
    "bodies that come after their answers": lambda: asyncio.run(bodies_after_their_answers()),
    "polls without a key, many at once": lambda: asyncio.run(without_a_key_ahead()),
    "connections without end": lambda: asyncio.run(connections()),
    "jobs made with kubectl": manifests,
    "a run.sh that burns": lambda: run(BURNS),
    "a run.sh that asks the gateway without end": lambda: run(at_the_gateway(ASK)),
    "a run.sh that connects to the gateway without end": lambda: run(at_the_gateway("pass")),
}
# The chart has the API on nodes that run no jobs, where it finds any.
APART = ", on a node of its own"
ATTACKS |= {name + APART: deed for name, deed in ATTACKS.items() if name.startswith("a run.sh")}


def spread(cpus: set[int], of: Callable[[str], bool]) -> None:
    """Have all processes run on *cpus* alone whose cgroups *of* says yes to."""
    for thread in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        # Some end meanwhile, and the kernel's own are where they are.
        with suppress(OSError):
            if of((thread / "cgroup").read_text()):
                os.sched_setaffinity(int(thread.name), cpus)


@contextmanager
def parted(name: str) -> Iterator[None]:
    """Where the attack is to come from elsewhere, keep everybody off the processors of jobs."""
    if APART not in name:
        yield
        return
    assert len(CPUS) > 1, "a machine with one processor cannot stand for two"
    spread(CPUS - OF_JOBS, lambda _: True)
    try:
        yield
    finally:
        spread(CPUS, lambda _: True)


def part() -> None:
    """Give the attacker's pod, which runs by now, the processors of jobs."""
    pods = json.loads(Place().kubectl("get", "pods", "-ojson"))["items"]
    uids = [pod["metadata"]["uid"] for pod in pods]
    spread(OF_JOBS, lambda cgroups: any(f"pod{uid}" in cgroups for uid in uids))


@contextmanager
def attacked(name: str, achieved: Counter[str]) -> Iterator[None]:
    """Run one attack in a process of its own while the block runs; adds up what it was answered."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.hostile", "--attack", name], stdout=subprocess.PIPE
    )
    try:
        if name.startswith("a run.sh"):
            until(lambda: came_to("Running"), "the attacker's job runs", 60)
            if APART in name:
                part()
        elif "downloads" in name:
            until(lambda: came_to("Completed"), "the attacker's job is done", 60)
        time.sleep(2)
        assert process.poll() is None, f"the attack has ended: {name}"
        yield
    finally:
        process.terminate()
        told, _ = process.communicate(timeout=30)
        achieved.update(json.loads(told))


def attack(name: str) -> None:
    """Be the attacker until terminated, then tell how often it was answered what."""

    def end(*_: object) -> None:
        print(json.dumps(DONE), flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    os.setsid()
    rank(19)
    ATTACKS[name]()


@contextmanager
def prepared(place: Place, *settings: str) -> Iterator[None]:
    """Give everybody a key, and have jobs wait but those that burn: their nodes are other machines."""
    callers = {user: {"role": "user", "user": user} for user in (*HONEST, MALLORY)}
    place.apply("OrchestratorQuota", QUOTA, {"services": ["example"], "maxRunning": 0})
    service(place, "burns", deadlineSeconds=40, resources={**SMALL, "cpu": "500m"})
    role = f"--role={RELEASE}-submitter"
    place.kubectl("create", "rolebinding", SUBMITTER, role, f"--user={SUBMITTER}")
    place.made.append(f"rolebinding/{SUBMITTER}")
    try:
        with asked(place, SECRET, callers, *settings, door=DOOR):
            yield
    finally:
        try:
            clear(place)
        finally:
            place.forget()


def clear(place: Place) -> None:
    """Remove the jobs of everybody, and wait until nobody has anything to do with them any more."""

    def gone(user: str) -> bool:
        selector = f"--field-selector=spec.userID={user}"
        return not place.kubectl("get", "orchestratorjobs", selector, "-oname")

    everybody = (*HONEST, MALLORY, SUBMITTER)
    for user in everybody:
        place.clear(f"spec.userID={user}")
    for user in everybody:
        until(lambda user=user: gone(user), f"the jobs of {user} are gone", 300)  # type: ignore[misc]
    time.sleep(REST_SECONDS)


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def measure(place: Place, rounds: int, attacks: list[str]) -> None:
    """Measure in turns, and print."""
    # Of each attack and what was asked, the rounds' pairs of what it took alone and beside.
    took: dict[str, dict[str, list[tuple[list[float], list[float]]]]] = {
        name: {"upload": [], "poll": []} for name in attacks
    }
    achieved = {name: Counter[str]() for name in attacks}
    for _ in range(rounds):
        for name in attacks:
            with parted(name):
                before = asyncio.run(crowd())
                with attacked(name, achieved[name]):
                    beside = asyncio.run(crowd())
            for what, rounds_of in took[name].items():
                rounds_of.append((before[what], beside[what]))
            of_round = {what: told(rounds_of[-1:]) for what, rounds_of in took[name].items()}
            print(f"beside {name}: {of_round}", file=sys.stderr, flush=True)
            clear(place)
    print(json.dumps({
        f"beside {name}": {what: told(rounds_of) for what, rounds_of in found.items()}
        | {"answered": achieved[name]} for name, found in took.items()
    }, indent=2))  # fmt: skip


def rank(nice: int) -> None:
    """Have this process, and its session where Linux ranks those, come first (-20) or last (19)."""
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    sessions = Path("/proc/self/autogroup")
    if sessions.exists():
        sessions.write_text(str(nice))


def told(rounds: list[tuple[list[float], list[float]]]) -> str:
    alone, beside = (p99(list(itertools.chain(*took))) for took in zip(*rounds, strict=True))
    ratios = [p99(beside) / p99(alone) for alone, beside in rounds]
    of_rounds = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(rounds) > 1 else ""
    return f"{beside / alone:.2f} x {1000 * alone:.0f} ms{of_rounds}"


def main() -> None:
    """Measure, or be the attacker."""
    words = sys.argv[1:]
    if words[:1] == ["--attack"]:
        attack(words[1])
        return
    rank(-20)
    rounds = int(words.pop(0)) if words and words[0].isdigit() else ROUNDS
    settings = [word for word in words if "=" in word]
    wanted = [word for word in words if "=" not in word]
    attacks = [name for name in ATTACKS if not wanted or any(word in name for word in wanted)]
    place = Place()
    with prepared(place, *settings):
        measure(place, rounds, attacks)


if __name__ == "__main__":
    main()
