"""Every check of the project, fast ones first, and one closing count of tests."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from local.paths import LOGS, ROOT
from local.steps import console

SCRIPTS = sorted(f"hack/{path.name}" for path in (ROOT / "hack").iterdir() if path.is_file())
# Unit tests wait more than they work.
IN_PARALLEL = ("--numprocesses=4",)
LINT = {
    "lint": ("ruff", "check", "."),
    "format": ("ruff", "format", "--check", "."),
    "types": ("mypy",),
    "layers": ("lint-imports",),
    "generated files": (sys.executable, "-m", "local.generate", "--check"),
    "shell scripts": ("shellcheck", *SCRIPTS, ".ci/run"),
    "wrapper": ("shellcheck", "--shell=sh", "operator/orchestrator_agent/wrapper.sh"),
}


class CheckFailed(Exception):  # noqa: N818
    """A check found something; its own output says what."""


def lint() -> None:
    """Run every check that is no test; raises CheckFailed at the first that finds something."""
    for name, argv in LINT.items():
        started = time.monotonic()
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout + done.stderr)
            raise CheckFailed(f"{name}: {' '.join(argv)} ended with exit code {done.returncode}.")
        console.print(f"[green]✓[/] {name} [dim]{time.monotonic() - started:.1f} s[/]")


def tests(name: str, *arguments: str) -> Counter[str]:
    """Run one of the suites under tests/; returns how many passed, failed and were skipped."""
    LOGS.mkdir(parents=True, exist_ok=True)
    report = LOGS / f"tests-{name}.xml"
    report.unlink(missing_ok=True)
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        f"--junitxml={report}",
        f"tests/{name}",
        *arguments,
    ]
    done = subprocess.run(argv, cwd=ROOT, check=False)
    count = _count(report)
    if done.returncode or not count["passed"]:
        raise CheckFailed(f"tests/{name}: pytest ended with exit code {done.returncode}.")
    return count


def module(name: str, words: list[str]) -> int:
    """Run a module of the tests as a program; returns its exit code."""
    return subprocess.run([sys.executable, "-m", name, *words], cwd=ROOT, check=False).returncode


def _count(report: Path) -> Counter[str]:
    count: Counter[str] = Counter()
    if not report.exists():
        return count
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314  (our own)
        number = {
            key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
        }
        count["failed"] += number["failures"] + number["errors"]
        count["skipped"] += number["skipped"]
        count["passed"] += number["tests"] - sum(
            number[k] for k in ("failures", "errors", "skipped")
        )
    return count


def close(count: Counter[str]) -> int:
    """Print the closing count; returns the exit code. A skipped test is no passed one."""
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or count["skipped"] else 0
