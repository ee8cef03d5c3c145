import pytest

from tests.fuzz.dose import SEED, TIMES, TRIED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("fuzz")
    terminalreporter.write_line(f"seed {SEED}, {TIMES} times the usual number of cases")
    for what, count in TRIED.items():
        terminalreporter.write_line(f"{count:>8} {what}")
