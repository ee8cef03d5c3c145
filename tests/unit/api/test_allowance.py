"""Who may have how much of something, and when."""

import pytest

from orchestrator_api.allowance import Allowance

AT_ONCE, PER_SECOND, MOST_OWED = 200, 50.0, 2.0


def test_when_what_is_spent_is_due() -> None:
    now = [100.0]
    allowance = Allowance(PER_SECOND, AT_ONCE, MOST_OWED, 1000, clock=lambda: now[0])
    assert [allowance.spend("a") for _ in range(AT_ONCE)] == [0.0] * AT_ONCE
    assert allowance.owed("a") == pytest.approx(0.0, abs=1e-6)
    assert allowance.spend("a") == pytest.approx(0.0, abs=1e-6)
    assert allowance.spend("a", 2) == pytest.approx(1 / PER_SECOND)
    assert allowance.spend("a") == pytest.approx(3 / PER_SECOND)
    assert allowance.owed("a") == pytest.approx(4 / PER_SECOND)
    # Nobody waits for what others ask, nor for ever.
    assert allowance.owed("b") == allowance.spend("b") == 0.0
    assert max(allowance.spend("a") for _ in range(10_000)) == MOST_OWED
    # And not for what was long ago, however much that was.
    allowance.spend("a", 1e9)
    now[0] += MOST_OWED + AT_ONCE / PER_SECOND + 1
    assert [allowance.spend("a") for _ in range(AT_ONCE)] == [0.0] * AT_ONCE


def test_who_was_heard_of_longest_ago_is_forgotten() -> None:
    allowance = Allowance(1.0, 0, remembered=3, clock=lambda: 100.0)
    for whose in "abacd":
        allowance.spend(whose)
    assert [allowance.owed(whose) for whose in "abcd"] == [2.0, 0.0, 1.0, 1.0]
