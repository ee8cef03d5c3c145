"""What a job wrote must not reach a terminal as anything but text."""

import pytest

from orchestrator_crds.outcome import Report, from_report
from orchestrator_crds.text import INSTEAD, tame

HOSTILE = {
    "colours": "\x1b[31mred\x1b[0m", "a title": "\x1b]0;pwned\x07", "a screen cleared": "\x1b[2J\x1b[H",
    "a link": "\x1b]8;;http://evil.example\x1b\\here", "an answer typed": "\x1b[6n\x1bP$q\x1b\\",
    "C1 controls": "\x9b31m\x90q\x9c", "a bell": "\a" * 9, "backspaces": "no\b\byes", "NUL": "a\0b",
    "delete": "a\x7f", "right to left": "\u202egpj.exe", "isolates": "\u2066a\u2069",
    "invisible": "a\u200bb\ufeffc\u00adc", "private": "\ue000\U000f0000", "lines": "a\u2028b\u2029c\x85d\vd\fd",
    "half a character": "\ud800", "tags": "\U000e0041",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_moves_colours_or_hides_is_not_shown(text: str) -> None:
    said = Report.model_validate(
        {"why": "exit", "exitCode": 3, "logTail": text, "skipped": [text], "progress": text,
         "message": text, "tooLarge": "", "resultsLost": text}
    )  # fmt: skip
    outcome = from_report(said, terminate=False)
    assert outcome is not None
    told = [outcome.message, said.log_tail, said.progress, said.message, *said.skipped]
    assert all(c.isprintable() or c == "\n" for words in told for c in words)
    assert INSTEAD in outcome.message
    assert len(tame(text)) <= len(text)


def test_what_people_write_stays_as_it_is() -> None:
    text = "Größe: 3 µm\n\t見 ✓ e\u0301 🙂 '\"<b>&"
    assert tame(text) == text
    assert tame("10%\r20%\r\n30%\r") == "10%\n20%\n30%\n"
