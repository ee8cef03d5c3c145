"""What a job says and how it names things steers no terminal that an administrator reads it on."""

import httpx2

from tests.cluster.place import Place, until

# Clears the screen, renames the window, goes back to the line's start, turns the writing round.
EVIL = r"\033[2J\033]0;x\007evil\r\342\200\256live\302\233"
SCRIPT = f"""
evil=$(printf '{EVIL}')
ln -s x "$evil link"
echo "$evil at 1/2" > "$ORCHESTRATOR_PROGRESS"
echo "$evil log"
until [ -e go ]; do sleep 0.2; done
exit 3
"""


def steering(text: str) -> set[str]:
    """Return the characters that a terminal does something with."""
    return {c for c in text if not c.isprintable() and c not in "\n\t"}


def test_what_a_job_says_steers_no_terminal(place: Place) -> None:
    number = place.upload(SCRIPT)
    name = f"job-{number}"
    poll = f"{place.front}/download/{number}"

    def told() -> str:
        return str(httpx2.get(poll).json()["message"])

    until(lambda: "evil" in told(), "its progress is told")
    # As it left the job, and as it would be without us.
    assert steering(place.kubectl("logs", f"{name}-1", "--container=agent")) >= {"\x1b", "\x07"}
    texts = {"progress": told(), "columns, running": place.kubectl("get", "oj", name, "-owide")}
    place.touch(f"{name}-1")
    assert place.wait(number) == "Failed"
    event = f"--field-selector=involvedObject.name={name}"
    texts |= {
        "message": told(),
        "columns": place.kubectl("get", "oj", name, "-owide"),
        "description": place.kubectl("describe", "oj", name),
        "events": until(lambda: place.kubectl("get", "events", event, "-owide"), "it is told"),
        "skipped": "\n".join(place.job(number)["status"]["skipped"]["names"]),
    }
    for where in ("progress", "message", "description", "events", "skipped"):
        assert "evil" in texts[where], where
    assert {where: found for where, text in texts.items() if (found := steering(text))} == {}
