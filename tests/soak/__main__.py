"""The long tests, on the cluster of hack/up; prints the seed, so that a failure can be repeated."""

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path

from tests.cluster.place import Place
from tests.soak.crowd import Size, crowd
from tests.soak.races import SERVICE, SPEC, races


def prepare(place: Place) -> None:
    """Make the service that the races run on, and a quota that lets many run."""
    image = place.get("orchestratorservice", "example")["spec"]["image"]
    place.apply("OrchestratorService", SERVICE, {"image": image, **SPEC})
    time.sleep(1)  # the API learns of it by its watch


def run_races(place: Place, count: int, seed: int) -> list[str]:
    """Run races; returns what was wrong."""
    prepare(place)
    try:
        found = asyncio.run(races(count, seed))
    finally:
        place.clear(f"spec.service={SERVICE}")
        place.forget()
    print(", ".join(f"{number} {phase}" for phase, number in sorted(found.ends.items())))
    return found.problems


def run_crowd(place: Place, jobs: int, seed: int) -> list[str]:
    """Run a crowd; returns what was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        size = Size(jobs=jobs, users=40, kills=10)
        try:
            made, found, problems = crowd(place, size, seed, Path(folder) / "kwok.log")
        finally:
            place.forget()
    print(*made.notes, sep="\n")
    print(f"{found.claims} claims, Jain index {found.jain:.4f}")
    if found.jain < 0.99:
        problems.append(f"shares differ: {dict(found.ran)}")
    if not made.paused_in_time:
        problems.append("the leader was paused too late to prove anything")
    return problems


def main() -> int:
    """Run them; returns 1 when anything was wrong."""
    parser = argparse.ArgumentParser(prog="hack/soak", description=__doc__)
    parser.add_argument("--races", type=int, default=500, help="how many races; 0 for none")
    parser.add_argument("--crowd", type=int, default=2000, help="how many jobs; 0 for no crowd")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeats a run")
    options = parser.parse_args()
    place, problems = Place(), []
    for name, run, count in (
        ("races", run_races, options.races),
        ("jobs of a crowd", run_crowd, options.crowd),
    ):
        if count:
            started = time.monotonic()
            print(f"{count} {name}, seed {options.seed}", flush=True)
            found = run(place, count, options.seed)
            print(*found, f"{len(found)} problems; {time.monotonic() - started:.0f} s", sep="\n")
            problems += found
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
