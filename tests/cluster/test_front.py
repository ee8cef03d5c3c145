"""The example of what stands before the API, as the API server takes it."""

from collections.abc import Iterator

import pytest
import yaml

from local.paths import EXAMPLES, NAMESPACE
from local.toolchain import gateway_kinds
from tests.cluster.place import Place, until

EXAMPLE, GROUP = EXAMPLES / "ingress/gateway.yaml", "gateway.networking.k8s.io"


@pytest.fixture
def kinds(place: Place) -> Iterator[None]:
    """Have the kinds of the Gateway API in the cluster; those that it has already stay."""
    wanted = {path.stem.split("_")[1]: path for path in gateway_kinds()}
    missing = {
        name: f"--filename={wanted[name]}"
        for name in ("gateways", "httproutes")
        if not place.get("crd", f"{name}.{GROUP}")
    }
    try:
        for file in missing.values():
            place.kubectl("create", file)
        for name in ("gateways", "httproutes"):
            asked = ("get", f"{name}.{GROUP}", "-oname")
            until(lambda: "error" not in place.kubectl(*asked, check=False), f"{name} are known")  # noqa: B023
        yield
    finally:
        for file in missing.values():
            place.kubectl("delete", "--ignore-not-found", file)


@pytest.mark.usefixtures("kinds")
def test_the_gateway_of_the_example_is_one_and_leads_to_the_api(place: Place) -> None:
    create = ("create", "--validate=strict", f"--namespace={NAMESPACE}", "--filename=-", "-oname")
    text = EXAMPLE.read_text()
    gateway, route = yaml.safe_load_all(text)
    # The counter-proof: a word that is none is found out, at any depth.
    for right, wrong in (("certificateRefs", "certificates"), ("0s", "never")):
        with pytest.raises(AssertionError, match=wrong):
            place.kubectl(*create, "--dry-run=server", stdin=text.replace(right, wrong))
    made = place.kubectl(*create, stdin=text).split()
    assert made == [f"{kind}.{GROUP}/orchestrator" for kind in ("gateway", "httproute")]
    [listener], [rule] = gateway["spec"]["listeners"], route["spec"]["rules"]
    assert route["spec"]["parentRefs"] == [
        {"name": gateway["metadata"]["name"], "sectionName": listener["name"]}
    ]
    assert route["spec"]["hostnames"] == [listener["hostname"]]
    [to] = rule["backendRefs"]
    ports = place.get("service", to["name"], NAMESPACE)["spec"]["ports"]
    assert to["port"] in {port["port"] for port in ports if port["name"] == "http"}
