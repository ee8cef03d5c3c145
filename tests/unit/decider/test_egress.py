"""Where jobs of a service may connect to, as policies in a Kubernetes at the wire."""

import asyncio
from typing import Any

import pytest

from orchestrator_crds import OrchestratorService
from orchestrator_operator.cluster.lease import Deposed, Lease
from orchestrator_operator.egress import Egress
from orchestrator_wire.kube import Kube
from tests.support.builders import a_service, meta
from tests.support.fake_kube import FakeKube

HTTPS = {"cidr": "192.0.2.0/24", "ports": [{"port": 443}]}
RANGE = {"cidr": "198.51.100.7/32", "ports": [{"port": 53, "endPort": 54, "protocol": "UDP"}]}
KIND = "networkpolicies"


class Services(dict[str, OrchestratorService]):
    """What the operator knows of services; a policy of the chart's is in the cluster beside."""

    def say(self, name: str, *egress: Any) -> None:
        self[name] = a_service(name, egress=list(egress))


@pytest.fixture
async def egress(cluster: tuple[FakeKube, Kube]) -> tuple[FakeKube, Services, Egress]:
    state, kube = cluster
    state.put(KIND, {"metadata": meta("orchestrator-jobs"), "spec": {"podSelector": {}}})
    lease = Lease(kube, "system", "me", seconds=15)
    await lease.acquire()
    services = Services()
    return state, services, Egress(kube, lease, "jobs", lambda: services)


async def settle(egress: Egress) -> None:
    await egress.once(egress.wanted())


def egress_of(state: FakeKube, name: str) -> Any:
    return state.get(KIND, f"egress-{name}")["spec"]["egress"]


async def test_the_policy_is_what_the_service_says(
    egress: tuple[FakeKube, Services, Egress],
) -> None:
    state, services, keeper = egress
    services.say("docking", HTTPS, RANGE)
    services.say("closed")
    await settle(keeper)
    assert {name for kind, name in state.objects if kind == KIND} == {
        "orchestrator-jobs",
        "egress-docking",
    }
    made = state.get(KIND, "egress-docking")
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-docking"
    assert made["spec"] == {
        "podSelector": {"matchLabels": {"orchestrator.dev/service": "docking"}},
        "policyTypes": ["Egress"],
        "egress": [
            {
                "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
                "ports": [{"port": 443, "protocol": "TCP"}],
            },
            {
                "to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}],
                "ports": [{"port": 53, "endPort": 54, "protocol": "UDP"}],
            },
        ],
    }


async def test_only_what_differs_is_written(egress: tuple[FakeKube, Services, Egress]) -> None:
    state, services, keeper = egress
    services.say("docking", HTTPS)
    services.say("folding", HTTPS)
    await settle(keeper)
    state.writes.clear()
    await settle(keeper)
    assert state.writes == []

    services.say("docking", RANGE)
    services.say("folding")
    state.get(KIND, "orchestrator-jobs")["metadata"]["labels"] = {}
    await settle(keeper)
    path = "/apis/networking.k8s.io/v1/namespaces/jobs/networkpolicies"
    assert state.writes == [f"PUT {path}/egress-docking", f"DELETE {path}/egress-folding"]
    assert egress_of(state, "docking")[0]["to"] == [{"ipBlock": {"cidr": "198.51.100.7/32"}}]


async def test_a_policy_that_somebody_widened_is_narrowed_again(
    egress: tuple[FakeKube, Services, Egress],
) -> None:
    state, services, keeper = egress
    services.say("docking", HTTPS)
    await settle(keeper)
    widened = state.get(KIND, "egress-docking")
    widened["spec"]["egress"].append({})
    state.put(KIND, widened)
    await settle(keeper)
    assert len(egress_of(state, "docking")) == 1


async def test_an_edit_is_written_without_being_asked(
    egress: tuple[FakeKube, Services, Egress],
) -> None:
    state, services, keeper = egress
    keeping = asyncio.create_task(keeper.forever(0.01))
    try:
        for rule, network in ((HTTPS, "192.0.2.0/24"), (RANGE, "198.51.100.7/32")):
            services.say("docking", rule)
            await asyncio.wait_for(_until(state, network), 10)
    finally:
        keeping.cancel()


async def _until(state: FakeKube, network: str) -> None:
    while network not in str(state.objects.get((KIND, "egress-docking"))):
        await asyncio.sleep(0.01)


async def test_who_was_deposed_writes_no_policy(
    egress: tuple[FakeKube, Services, Egress], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, services, keeper = egress
    services.say("docking", HTTPS)
    monkeypatch.setattr(Lease, "held", lambda _: False)
    with pytest.raises(Deposed):
        await settle(keeper)
    assert (KIND, "egress-docking") not in state.objects
