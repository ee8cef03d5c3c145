"""Somebody else's job at the real door, by whatever route: it answers as if it were not there.

And bodies of whom nobody knows, which cost nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from tests.attack.test_door import front
from tests.cluster.keys import asked, bearer
from tests.cluster.place import Place, until
from tests.cluster.test_files import anonymous_bytes, peak
from tests.support.raw import CHUNKED, MEGABYTE, ON_THE_WAY, UPLOAD, answers, endless, let_in

OWNER, OTHER = "81", "82"
CALLERS: dict[str, dict[str, Any]] = {
    OWNER: {"role": "user", "user": OWNER},
    OTHER: {"role": "user", "user": OTHER},
    "portal": {"role": "portal", "users": ["*"], "services": ["docking"]},
}
# What may be asked of a file beside the file.
HEADERS: list[dict[str, str]] = [
    {},
    {"Range": "bytes=0-9"},
    {"Range": "bytes=-1"},
    {"Range": "bytes=0-9", "If-Range": '"x"'},
    {"If-None-Match": "*"},
    {"X-Forwarded-User": OWNER, "X-Forwarded-For": "127.0.0.1", "X-User-Id": OWNER},
    {"X-HTTP-Method-Override": "GET", "X-Original-URL": "/health"},
]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# What every answer tells anew.
CLOCK = re.compile(r"date: [^\n]*")
THROWN_AWAY = 64 * MEGABYTE


@pytest.fixture(scope="module")
def door(chosen: Place) -> Iterator[Place]:
    """Have everybody asked for a key."""
    chosen = replace(chosen, made=[])
    with asked(chosen, "attack-keys", CALLERS):
        yield chosen
        chosen.forget()


def unknown(place: Place, number: int) -> int:
    """Return the number of no job, which takes as many bytes to write as *number*."""
    most: int = 10 ** len(str(number)) - 1
    while place.job(most):
        most -= 1
    return most


def test_whatever_is_asked_of_anothers_job_is_answered_as_if_there_were_none(door: Place) -> None:
    ended, running = (
        door.upload(script, user=int(OWNER), headers=bearer(OWNER))
        for script in ("echo mine > result", "sleep 600")
    )
    described = httpx2.get(f"{door.front}/api-docs/openapi.json").json()["paths"]
    paths = [path for path in described if "{job_id}" in path]
    assert len(paths) > 3
    with httpx2.Client(base_url=door.front, timeout=60) as client:

        def told(who: str, method: str, path: str, number: int, headers: dict[str, str]) -> str:
            """Return an answer whole, without what tells which job it is of."""
            where = path.replace("{job_id}", str(number))
            found = client.request(method, where, headers=headers | bearer(who))
            head = "\n".join(f"{name.lower()}: {value}" for name, value in found.headers.items())
            body = re.sub(rf"\b{number}\b", "N", found.text)
            return CLOCK.sub("", f"{found.status_code}\n{head}\n{body}")

        def phase(number: int) -> str:
            return str(door.job(number).get("status", {}).get("phase"))

        until(lambda: phase(ended) == "Completed", "one has ended")
        until(lambda: phase(running) == "Running", "the other runs")
        asked = [
            (method, path, headers) for path in paths for method in METHODS for headers in HEADERS
            if method in {"GET", "HEAD"} or not headers
        ]  # fmt: skip
        nobody = {number: unknown(door, number) for number in (ended, running)}

        def differs(who: str, method: str, path: str, headers: dict[str, str]) -> bool:
            """Tell whether either of the two is answered otherwise than one that is not there."""
            its = [told(who, method, path, number, headers) for number in nobody]
            return its != [told(who, method, path, none, headers) for none in nobody.values()]

        for who in ("", "false", OTHER, "portal"):
            assert not [words for words in asked if differs(who, *words)], who
        assert phase(running) == "Running"
        # The counter-proof: whose job it is gets all that.
        owners = [words for words in asked if differs(OWNER, *words)]
    assert len(owners) > 2 * len(HEADERS)
    assert {path for _, path, _ in owners} == set(paths)
    until(lambda: phase(running) == "Killed", "its owner has stopped it")


def test_bodies_of_whom_nobody_knows_are_thrown_away_and_take_no_memory(door: Place) -> None:
    first = b'--M\r\nContent-Disposition: form-data; name="f"; filename="run.sh"\r\n\r\n'
    more = b"100000\r\n" + bytes(MEGABYTE) + b"\r\n"

    def request(who: str) -> bytes:
        lines = [f"{k}: {v}\r\n".encode() for k, v in bearer(who).items()]
        return UPLOAD + CHUNKED + b"".join(lines) + b"\r\n%x\r\n%s\r\n" % (len(first), first)

    quiet, most = anonymous_bytes(door), 2 * THROWN_AWAY
    for who in ("", "false"):
        with peak(lambda: anonymous_bytes(door)) as highest:
            found, sent = answers(front(door), endless(request(who), more, most))
        assert found == [401]
        # The front door forwards, and has buffers of its own.
        assert sent < THROWN_AWAY + 4 * ON_THE_WAY
        assert highest[0] - quiet < 16 * MEGABYTE
    # The counter-proof: of somebody with a key it is read.
    assert let_in(front(door), endless(request(OWNER), more, most)) > most
