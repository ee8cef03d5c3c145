"""What a job that takes all it can costs its neighbour: `hack/python -m tests.bench.neighbour [ROUNDS]`.

Needs the cluster of hack/up. The neighbour is a job with a fixed amount of work, timed inside its own
run.sh: alone, and then beside each offender of tests/attack/test_exhaustion.py, and beside one that
floods its log. What an offender does it does again and again until the neighbour is done, and who
was stopped comes again. Most of the work is a processor's, some is reading files that lie in memory,
some is writing ones to the disk. The aim is a ratio of at most 1.2; told is that of each part, too.
"""

import json
import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from tests.attack.test_exhaustion import FORK_BOMB, MOST_PROCESSES, OFFENDERS
from tests.cluster.place import TERMINAL, Place
from tests.cluster.test_job import unzip
from tests.cluster.test_life import CORPUS, SMALL, service

ROUNDS = 3
SCRIPTS = {name: script for name, (script, _) in OFFENDERS.items()} | {
    "floods its log": CORPUS["floods its log"][0],
    "takes every process": MOST_PROCESSES,
    "is a fork bomb": FORK_BOMB,
}
# What has memory for that, or the lack of it would end them first.
CROWDED = {"takes every process", "is a fork bomb"}
# Half a processor, so that the machine has room for the other.
WORK = """exec python3 - <<'END'
import json, os, time

def computes():
    for n in range(60_000_000):
        n * n

def writes():
    for n in range(100):
        with open(f"{n}", "wb") as file:
            file.write(bytes(100_000))
            file.flush()
            os.fsync(file.fileno())

def reads():
    for _ in range(100):
        for n in range(100):
            open(f"{n}", "rb").read()

took = {}
for part in computes, writes, reads:
    begun = time.time()
    part()
    took[part.__name__] = time.time() - begun
json.dump(took, open("took", "w"))
END
"""
Took = dict[str, float]


def took(place: Place, name: str) -> Took:
    """Return how long the neighbour's work takes now, by part."""
    number = place.upload(WORK, service=name)
    assert place.wait(number) == "Completed", place.poll(number).text
    found: Took = json.loads(unzip(place.poll(number).content)["took"])
    return {"all": sum(found.values()), **found}


def median(found: list[Took]) -> Took:
    return {part: statistics.median(one[part] for one in found) for part in found[0]}


@contextmanager
def offending(place: Place, offender: str, loud: str) -> Iterator[None]:
    """Have an offender run, again and again, while the block runs."""
    script = f"while :; do (\n{SCRIPTS[offender]}\n); done"
    over = threading.Event()
    numbers = [place.upload(script, service=loud, user=2)]
    place.wait(numbers[0], "Running", "Completed", "Failed")

    def again() -> None:
        while not over.is_set():
            if place.status(numbers[-1]) in TERMINAL:
                numbers.append(place.upload(script, service=loud, user=2))
            over.wait(0.2)

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        httpx2.post(f"{place.front}/terminate/{numbers[-1]}", timeout=60)
        place.wait(numbers[-1], seconds=120)


def main() -> None:
    """Measure and print."""
    place, rounds = Place(), int(sys.argv[1]) if sys.argv[1:] else ROUNDS
    try:
        quiet = service(place, "quiet", resources={**SMALL, "cpu": "500m"})
        loud, crowded = (
            service(
                place, name, deadlineSeconds=20, results={"maxBytes": 60_000_000},
                resources={**SMALL, "cpu": "500m", "memory": memory},
            )
            for name, memory in (("loud", SMALL["memory"]), ("crowded", "4Gi"))
        )  # fmt: skip
        alone = median([took(place, quiet) for _ in range(rounds)])
        print("alone:", ", ".join(f"{part} {seconds:.2f} s" for part, seconds in alone.items()))
        for name in SCRIPTS:
            with offending(place, name, crowded if name in CROWDED else loud):
                found = median([took(place, quiet) for _ in range(rounds)])
            ratios = ", ".join(f"{part} {found[part] / alone[part]:.2f} x" for part in alone)
            print(f"beside a job that {name}: {ratios}", flush=True)
    finally:
        place.forget()


if __name__ == "__main__":
    main()
