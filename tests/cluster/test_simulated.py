"""A slice of `hack/soak`: a crowd on simulated nodes, and one leader paused, one killed."""

import random
from pathlib import Path

import pytest

from tests.cluster.place import Place
from tests.soak.crowd import Size, crowd


@pytest.mark.timeout(400)
def test_no_claim_is_above_a_limit_and_no_job_runs_twice_whatever_happens_to_operators(
    place: Place, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    made, found, problems = crowd(
        place, Size(jobs=240, users=8, kills=1), seed, tmp_path / "kwok.log"
    )
    print(*made.notes, sep="\n")
    assert problems == [], f"seed {seed}"
    assert made.paused_in_time, made.notes
    assert found.claims >= 240
    assert found.jain >= 0.99, found.ran
