"""How much is tried, from which seed, and how much was: told at the end of a run.

ORCHESTRATOR_FUZZ_TIMES makes a run so many times as long; ORCHESTRATOR_FUZZ_SEED gives it other cases.
"""

import os
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

TIMES = int(os.environ.get("ORCHESTRATOR_FUZZ_TIMES", "1"))
SEED = int(os.environ.get("ORCHESTRATOR_FUZZ_SEED", "7"))
# What was tried -> how often.
TRIED: Counter[str] = Counter()


def fuzzed(cases: int, **strategies: Any) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Make a test of a function: it is called with so many *cases* of what *strategies* give."""

    def decorate(function: Callable[..., None]) -> Callable[[], None]:
        @wraps(function)
        def counted(**given_: Any) -> None:
            TRIED[function.__name__] += 1
            function(**given_)

        limits = settings(
            max_examples=cases * TIMES,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        found: Callable[[], None] = seed(SEED)(limits(given(**strategies)(counted)))
        # Whatever hangs is ended by pytest-timeout.
        return pytest.mark.timeout(120 * TIMES)(found)

    return decorate
