from orchestrator_operator.core import judgement
from tests.support.builders import a_pool, a_quota, a_service


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
    verdict = judgement.of_quota(a_quota(services=["exmaple"]), {"example"})
    assert not verdict.ready
    assert verdict.message == "spec.services: there is no service exmaple."


def test_quotas_and_pools_are_ready_otherwise() -> None:
    assert judgement.of_quota(a_quota(), set()).ready
    assert judgement.of_pool(a_pool()).ready
