"""Jobs behind gVisor, by their service's `runtimeClassName`: a kernel of their own, the rest as ever."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import yaml

from local.toolchain import GVISOR, GVISOR_SHIM
from tests.attack.stranger import Stranger
from tests.attack.test_exhaustion import (
    EITHER,
    FORK_BOMB,
    MOST_PROCESSES,
    OFFENDERS,
    OUT_OF_MEMORY,
    comes_to,
    offending,
)
from tests.attack.test_network import (
    DIAL,
    ELSEWHERE,
    ROOMY,
    gateways,
    in_a_job,
    of_the_node,
    of_the_pods,
    open_ones,
    services,
)
from tests.attack.test_probe import probed
from tests.cluster.place import Place, until
from tests.cluster.test_job import unzip
from tests.cluster.test_life import CORPUS, Numbers, ends_as_told, service, uploaded

NAME = "gvisor"
RUNTIME = {
    "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": NAME},
    "handler": "runsc",
}  # fmt: skip
# All of a pod is one process of the node, which the kernel kills for its memory, with all that is in
# it: so those that need too much end otherwise.
AS_EVER = {name: told for name, told in CORPUS.items() if "memory" not in name} | {
    # A tenth of what it is elsewhere: it goes slowly here.
    "floods its log": (
        "head -c 30000000 /dev/zero | tr '\\0' 'x'; echo; echo the end; exit 9",
        "Failed", "NonZeroExit", "the end",
    ),
}  # fmt: skip
OFFENDING = OFFENDERS | {
    "starts threads": (
        OFFENDERS["starts threads"][0],
        ("Failed", "OOMKilled or DeadlineExceeded or NonZeroExit"),
    ),
    # A file takes all of its length there, so that the agent stops the job as soon as it looks.
    "leaves terabytes of nothing": (
        "truncate -s 1T huge; truncate -s 1T /tmp/huge; sleep 14",
        ("Failed", "DiskLimitExceeded"),
    ),
    # The pod has the agent's share of memory, too.
    "fills its shared memory": ("head -c 1000000000 /dev/zero > /dev/shm/x", OUT_OF_MEMORY),
    # Memory is all that ends these in time (SECURITY.md).
    "takes every process": (MOST_PROCESSES, EITHER),
    "is a fork bomb": (FORK_BOMB, EITHER),
}


@pytest.fixture(scope="module")
def walled(chosen: Place) -> Iterator[str]:
    """Give a service whose jobs run behind gVisor."""
    for program in (GVISOR, GVISOR_SHIM):
        assert program.exists(), "hack/test builds gVisor, which hack/up does not"
    chosen = replace(chosen, made=[])
    chosen.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(RUNTIME))
    try:
        yield service(chosen, "walled", runtimeClassName=NAME, resources=ROOMY)
    finally:
        chosen.forget()
        chosen.kubectl("delete", "runtimeclass", NAME)


@pytest.fixture(scope="module")
def crowds(chosen: Place, walled: str) -> Iterator[tuple[Numbers, Numbers]]:
    """Start all at once, to be waited for one by one."""
    with (
        uploaded(chosen, f"{walled}-corpus", AS_EVER, runtimeClassName=NAME) as corpus,
        offending(chosen, f"{walled}-offenders", OFFENDING, runtimeClassName=NAME) as offenders,
    ):
        yield corpus, offenders


def test_a_job_has_a_kernel_that_is_not_the_nodes(place: Place, walled: str) -> None:
    def release(name: str) -> str:
        number = place.upload("uname -r > kernel", service=name)
        assert place.wait(number) == "Completed", place.poll(number).text
        return unzip(place.poll(number).content)["kernel"].decode().strip()

    assert release(walled).endswith("-gvisor")
    # The counter-proof.
    assert release("example") == os.uname().release


def test_whatever_a_job_tries_is_refused_or_done_to_its_own_kernel(
    place: Place, walled: str, golden: Callable[[str, Any], None]
) -> None:
    # Its own priority, killing score and devices are gVisor's, and move nothing of the node's.
    golden("probe-gvisor.yaml", probed(place, walled))


def test_a_job_reaches_the_gateway_and_nobody_else(
    place: Place, walled: str, stranger: Stranger
) -> None:
    # That all these do listen, and that a policy is what closes them, test_network shows.
    node, cluster = of_the_node(place, stranger), services(place) + of_the_pods(place)
    targets = sorted({*ELSEWHERE, *node, *cluster})
    first, second = in_a_job(place, walled, DIAL, json.dumps(targets), "[0, 1]")
    assert open_ones(targets, first) == open_ones(targets, second) == gateways(place)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", AS_EVER)
def test_a_run_sh_that(place: Place, crowds: tuple[Numbers, Numbers], name: str) -> None:
    ends_as_told(place, crowds[0][name], AS_EVER[name])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", OFFENDING)
def test_an_offender_that(place: Place, crowds: tuple[Numbers, Numbers], name: str) -> None:
    comes_to(place, crowds[1][name], OFFENDING[name][1])


@pytest.mark.timeout(300)
def test_a_job_that_needs_too_much_memory_is_told_so_and_what_was_saved_is_kept(
    place: Place, walled: str
) -> None:
    number = place.upload(
        "echo x > out; until [ -e go ]; do sleep 0.1; done; exec python3 -c 'x = bytearray(10**10)'",
        service=walled,
    )
    place.wait(number, "Running")

    def saved() -> bool:
        answer = httpx2.get(f"{place.front}/download_partial/{number}", timeout=60)
        return answer.status_code == 200 and "out" in unzip(answer.content)

    until(saved, "what it wrote is saved")
    place.touch(f"job-{number}-1")
    assert place.wait(number) == "Failed"
    status = place.job(number)["status"]
    assert (status["reason"], status["attempt"]) == ("OOMKilled", 1)
    assert saved()
