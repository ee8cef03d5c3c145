"""A slice of `hack/soak`."""

import asyncio
import random

import pytest

from tests.cluster.place import Place
from tests.soak.__main__ import prepare
from tests.soak.races import races


@pytest.mark.timeout(200)
def test_end_deadline_and_termination_at_once_are_one_end(place: Place) -> None:
    prepare(place)
    seed = random.randrange(10**6)
    found = asyncio.run(races(24, seed))
    assert found.problems == [], f"seed {seed}"
    assert sum(found.ends.values()) == 24
