"""The corpus of tests/support/raw.py at the real door, in bounded memory."""

import pytest

from tests.cluster.place import Place
from tests.cluster.test_files import anonymous_bytes, peak
from tests.support.raw import (
    FLOODS,
    LAST,
    MEGABYTE,
    ON_THE_WAY,
    REQUESTS,
    Address,
    answers,
    endless,
)


def front(place: Place) -> Address:
    host, port = place.front.removeprefix("http://").split(":")
    return host, int(port)


def test_two_requests_never_become_three_and_doubt_ends_the_connection(place: Place) -> None:
    address = front(place)
    found = {name: answers(address, [raw + LAST])[0] for name, (raw, _) in REQUESTS.items()}
    assert found == {name: expected for name, (_, expected) in REQUESTS.items()}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_takes_no_memory(place: Place, name: str) -> None:
    first, more, *_, most = FLOODS[name]
    quiet = anonymous_bytes(place)
    with peak(lambda: anonymous_bytes(place)) as highest:
        _, sent = answers(front(place), endless(first, more, most + 10 * ON_THE_WAY))
    # The front door forwards, and has buffers of its own.
    assert sent < most + 4 * ON_THE_WAY
    assert highest[0] - quiet < 16 * MEGABYTE
