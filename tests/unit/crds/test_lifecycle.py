"""The phase table, pair by pair."""

import itertools

import pytest

from orchestrator_crds.lifecycle import (
    INFRASTRUCTURE,
    LIVE,
    MOVES,
    TERMINAL,
    IllegalTransition,
    Phase,
    advance,
)

# The table of the design, written a second time on purpose.
LEGAL = {
    ("Queued", "Submitted"), ("Queued", "Invalid"), ("Queued", "Killed"),
    ("Submitted", "Running"), ("Submitted", "Queued"), ("Submitted", "Failed"),
    ("Submitted", "Killed"),
    ("Running", "Completed"), ("Running", "Failed"), ("Running", "Killed"), ("Running", "Queued"),
    ("Completed", "Cleaned"), ("Failed", "Cleaned"), ("Invalid", "Cleaned"), ("Killed", "Cleaned"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), list(itertools.product(Phase, Phase)))
def test_every_pair_is_legal_or_refused(old: Phase, new: Phase) -> None:
    if (old, new) in LEGAL:
        assert advance(old, new) is new
    else:
        with pytest.raises(IllegalTransition, match=f"{old} cannot become {new}"):
            advance(old, new)


def test_every_phase_has_a_row() -> None:
    assert set(MOVES) == set(Phase)


def test_live_and_terminal_phases_are_all_phases() -> None:
    assert set(Phase) == LIVE | TERMINAL
    assert not LIVE & TERMINAL


def test_a_terminal_phase_is_final_but_for_cleaned() -> None:
    assert all(MOVES[phase] <= {Phase.CLEANED} for phase in TERMINAL)


def test_the_users_own_failures_are_not_the_infrastructures() -> None:
    assert not {"NonZeroExit", "DeadlineExceeded", "OOMKilled", "Terminated"} & INFRASTRUCTURE
