"""The long tests, on the cluster of hack/up; prints the seed, so that a failure can be repeated."""

import argparse
import asyncio
import random
import time

from tests.cluster.place import Place
from tests.soak.races import SERVICE, SPEC, races


def prepare(place: Place) -> None:
    """Make the service that the races run on, and a quota that lets many run."""
    image = place.get("orchestratorservice", "example")["spec"]["image"]
    place.apply("OrchestratorService", SERVICE, {"image": image, **SPEC})
    time.sleep(1)  # the API learns of it by its watch


def main() -> int:
    """Run the races; returns 1 when anything was wrong."""
    parser = argparse.ArgumentParser(prog="hack/soak", description=__doc__)
    parser.add_argument("--races", type=int, default=500, help="how many races")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeats a run")
    options = parser.parse_args()
    print(f"{options.races} races, seed {options.seed}")
    place, started = Place(), time.monotonic()
    prepare(place)
    try:
        found = asyncio.run(races(options.races, options.seed))
    finally:
        place.kubectl(
            "delete", "orchestratorjobs", f"--field-selector=spec.service={SERVICE}", "--wait=false"
        )
        place.forget()
    for problem in found.problems:
        print(problem)
    ends = ", ".join(f"{count} {phase}" for phase, count in sorted(found.ends.items()))
    print(f"{ends}; {len(found.problems)} problems; {time.monotonic() - started:.0f} s")
    return 1 if found.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
