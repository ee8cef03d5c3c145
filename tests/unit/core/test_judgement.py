from typing import Any

import pytest

from orchestrator_operator.core import facts, judgement
from orchestrator_operator.core.nodes import ClusterNode
from tests.support.builders import a_pool, a_quota, a_service, node_body

NOW = 1.0e9


def test_a_service_with_a_pool_is_ready() -> None:
    assert judgement.of_service(a_service(), {"cpu"}).ready


def test_a_service_without_any_pool_says_which_field_and_why() -> None:
    verdict = judgement.of_service(a_service(nodePools=["gpu"]), {"cpu"})
    assert not verdict.ready
    assert verdict.message == "spec.nodePools: none of these exists: gpu."


def test_a_service_with_one_of_two_pools_is_ready_and_says_so() -> None:
    verdict = judgement.of_service(a_service(nodePools=["gpu", "cpu"]), {"cpu"})
    assert verdict.ready
    assert "gpu" in verdict.message


def test_a_quota_for_a_service_that_does_not_exist_is_not_ready() -> None:
    verdict = judgement.of_quota(a_quota(services=["exmaple"]), {"example"}, NOW)
    assert not verdict.ready
    assert verdict.message == "spec.services: there is no service exmaple. It is not in force."


def test_a_quota_whose_window_never_opens_names_the_field_and_keeps_what_was_right() -> None:
    never = {"never": {"schedule": "0 0 30 2 *", "durationSeconds": 60}}
    quota = a_quota(windows=never, status={"inForce": {"maxRunning": 3}})
    verdict = judgement.of_quota(quota, set(), NOW)
    assert not verdict.ready
    assert verdict.message.startswith("spec.windows.never.schedule: ")
    assert verdict.message.endswith("The last version that was right stays in force.")


def test_quotas_are_ready_otherwise() -> None:
    assert judgement.of_quota(a_quota(), set(), NOW).ready


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ({}, "Accepted"),
        ({"cordoned": True}, "NoUsableNode"),
        ({"ready": False}, "NoUsableNode"),
        ({"taints": [{"key": "gpu", "effect": "NoSchedule"}]}, "NoUsableNode"),
        ({"taints": [{"key": "gpu", "effect": "PreferNoSchedule"}]}, "Accepted"),
        ({"taints": [{"key": "own", "value": "x", "effect": "NoExecute"}]}, "Accepted"),
        ({"labels": {"pool": "gpu"}}, "NoNode"),
    ],
)
def test_a_pool_is_ready_when_one_of_its_nodes_takes_its_pods(node: Any, reason: str) -> None:
    pool = a_pool(tolerations=[{"key": "own", "operator": "Exists"}])
    parsed = ClusterNode.parse(node_body(**node))
    verdict = judgement.of_pool(pool, facts.nodes_of(pool, {parsed.name: parsed}))
    assert (verdict.reason, verdict.ready) == (reason, reason == "Accepted")


def test_a_pool_that_is_scaled_from_nothing_is_ready_without_nodes() -> None:
    assert judgement.of_pool(a_pool(elastic=True), []).ready


@pytest.mark.parametrize("change", [{"cordoned": True}, {"labels": {"pool": "x"}}, {"cpu": "1"}])
def test_a_nodes_heartbeat_changes_nothing_but_what_it_can_take_does(change: Any) -> None:
    node, beaten = node_body(), node_body()
    beaten["metadata"]["resourceVersion"] = "2"
    old = ClusterNode.parse(node)
    assert ClusterNode.parse(beaten).is_like(old)
    assert not ClusterNode.parse(node_body(**change)).is_like(old)
