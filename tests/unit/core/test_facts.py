"""What a waiting job takes up, as the decisions weigh it."""

from orchestrator_crds.resources import ComputeResources
from orchestrator_operator.core import facts
from tests.support.builders import a_job, a_service


def test_names_that_only_a_job_knows_are_weighed_by_nobody() -> None:
    """A thousand jobs with sixteen names each once took a hundred megabytes at every pass."""
    service = a_service(resources={"extended": {"example.com/x": "2"}}).spec
    for amount in ("1", "0", "0.0", "0Gi"):
        job = a_job(spec={"resources": {"extended": {"x" * 90: amount}}})
        assert not facts.waiting(job, service).group.demand.amounts
    known = a_job(spec={"resources": {"extended": {"example.com/x": "1"}}})
    assert dict(facts.waiting(known, service).group.demand.amounts)["example.com/x"] == 1000


def test_what_is_nothing_is_left_out_however_it_is_written() -> None:
    resources = ComputeResources(cpu="0.0", memory="00Mi", extended={"a": "0", "b": "0.10"})
    assert resources.amounts() == {"ephemeral-storage": "4Gi", "b": "0.10"}
