"""The example of what stands before the API, as the API server takes it."""

from collections.abc import Iterator

import pytest
import yaml

from local.paths import EXAMPLES, NAMESPACE
from local.toolchain import gateway_kinds
from tests.cluster.place import Place

EXAMPLE = EXAMPLES / "ingress/gateway.yaml"


@pytest.fixture
def kinds(place: Place) -> Iterator[None]:
    """Have the kinds of the Gateway API in the cluster."""
    wanted = [path for path in gateway_kinds() if path.stem.endswith(("gateways", "httproutes"))]
    assert len(wanted) == 2, "hack/test fetches them"
    files = [f"--filename={path}" for path in wanted]
    place.kubectl("create", *files)
    try:
        place.kubectl("wait", "--for=condition=Established", *files)
        yield
    finally:
        place.kubectl("delete", *files)


@pytest.mark.usefixtures("kinds")
def test_the_gateway_of_the_example_is_one_and_leads_to_the_api(place: Place) -> None:
    create = ("create", "--validate=strict", f"--namespace={NAMESPACE}", "--filename=-", "-oname")
    text = EXAMPLE.read_text()
    gateway, route = yaml.safe_load_all(text)
    # The counter-proof: a word that is none is found out, at any depth.
    for right, wrong in (("certificateRefs", "certificates"), ("0s", "never")):
        with pytest.raises(AssertionError, match=wrong):
            place.kubectl(*create, "--dry-run=server", stdin=text.replace(right, wrong))
    group = "gateway.networking.k8s.io/orchestrator"
    made = place.kubectl(*create, stdin=text).split()
    assert made == [f"gateway.{group}", f"httproute.{group}"]
    [listener], [rule] = gateway["spec"]["listeners"], route["spec"]["rules"]
    assert route["spec"]["parentRefs"] == [
        {"name": gateway["metadata"]["name"], "sectionName": listener["name"]}
    ]
    assert route["spec"]["hostnames"] == [listener["hostname"]]
    [to] = rule["backendRefs"]
    ports = place.get("service", to["name"], NAMESPACE)["spec"]["ports"]
    assert to["port"] in {port["port"] for port in ports if port["name"] == "http"}
