"""What a job that takes all it can costs its neighbour: `hack/python -m tests.bench.neighbour [ROUNDS]`.

Needs the cluster of hack/up. The neighbour is a job with a fixed amount of work, timed inside its own
run.sh: alone, and then beside each offender of tests/attack/test_exhaustion.py, and beside one that
floods its log. The aim is a ratio of at most 1.2.
"""

import statistics
import sys

from tests.attack.test_exhaustion import FORK_BOMB, MOST_PROCESSES, OFFENDERS
from tests.cluster.place import Place
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
WORK = """
begun=$(date +%s.%N)
python3 -c 'for n in range(20_000_000): n * n'
python3 -c "print($(date +%s.%N) - $begun)" > seconds
"""


def seconds(place: Place, name: str) -> float:
    """Return how long the neighbour's work takes now."""
    number = place.upload(WORK, service=name)
    assert place.wait(number) == "Completed", place.poll(number).text
    return float(unzip(place.poll(number).content)["seconds"])


def beside(place: Place, offender: str, quiet: str, loud: str) -> float:
    """Return how long it takes while an offender runs."""
    number = place.upload(SCRIPTS[offender], service=loud, user=2)
    place.wait(number, "Running", "Completed", "Failed")
    found = seconds(place, quiet)
    place.wait(number, seconds=120)
    return found


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
        alone = statistics.median(seconds(place, quiet) for _ in range(rounds))
        print(f"alone: {alone:.2f} s")
        for name in SCRIPTS:
            its = crowded if name in CROWDED else loud
            found = statistics.median(beside(place, name, quiet, its) for _ in range(rounds))
            print(f"beside a job that {name}: {found / alone:.2f} x")
    finally:
        place.forget()


if __name__ == "__main__":
    main()
