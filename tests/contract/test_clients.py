"""Programs that portals wrote for the old system, run unchanged."""

import subprocess
import sys

import pytest

from local.paths import ROOT
from tests.contract.test_contract import SERVICE, URL


@pytest.mark.parametrize(
    ("client", "printed"),
    [
        ("poll", "42"),
        ("cancel", "Killed"),
        ("partial", "['first.txt', 'second.txt']"),
    ],
)
def test_a_client_of_the_old_system(client: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.contract.clients.{client}", URL, SERVICE],
        capture_output=True, text=True, check=False, timeout=100, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, printed), done.stderr
