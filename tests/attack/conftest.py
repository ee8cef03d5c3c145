from collections.abc import Iterator

import pytest

from tests.attack.stranger import Stranger, strangers
from tests.cluster.place import Place


@pytest.fixture(scope="package")
def stranger(chosen: Place) -> Iterator[Stranger]:
    """Give a pod that nothing guards: what it can do shows that the attacks are real."""
    with strangers(chosen) as found:
        yield found
