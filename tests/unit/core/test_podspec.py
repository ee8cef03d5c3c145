"""The pod, whole, against a golden file, and what no pod of ours may ever have."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from orchestrator_crds import labels
from orchestrator_crds.amounts import amount
from orchestrator_operator.core.nodes import ClusterNode
from orchestrator_operator.core.podspec import Surroundings, build
from orchestrator_operator.settings import wrapper_text
from tests.support.builders import a_pool, a_service, node_body, submitted

AROUND = Surroundings(
    agent_image="agent:1",
    agent_pull_policy="IfNotPresent",
    gateway_url="http://10.0.0.1:8081",
    wrapper="the wrapper, which costs $5",
)
TOLERATIONS = [{"key": "jobs", "operator": "Exists", "effect": "NoSchedule"}]


def kubelet(word: str) -> str:
    """Return *word* as the kubelet passes it on: $$ is $, and $(NAME) is a variable's value."""
    return re.sub(r"\$\$|\$\(\w+\)", lambda m: "$" if m[0] == "$$" else "EXPANDED", word)


def test_the_pod_is_the_golden_one(golden: Callable[[str, Any], None]) -> None:
    service = a_service(
        env=[{"name": "MODE", "value": "$(HOME) costs $5"}],
        graceSeconds=5,
        uploadSeconds=60,
        deadlineSeconds=100,
        runtimeClassName="gvisor",
    )
    pool = a_pool(tolerations=TOLERATIONS)
    pod = build(submitted(attempt=2), service, pool, AROUND)
    golden("pod.yaml", pod)


def test_the_pod_of_a_service_that_says_nothing_is_the_golden_one(
    golden: Callable[[str, Any], None],
) -> None:
    golden("pod-plain.yaml", build(submitted(), a_service(), a_pool(), AROUND, [OFFERS]))


def test_a_runtime_class_is_told_which_volumes_are_shared() -> None:
    plain = build(submitted(), a_service(), a_pool(), AROUND)
    assert set(plain["metadata"]["annotations"]) == {labels.USER}
    walled = build(submitted(), a_service(runtimeClassName="kata"), a_pool(), AROUND)
    told = set(walled["metadata"]["annotations"]) - {labels.USER}
    shared = {volume["name"] for volume in walled["spec"]["volumes"] if "emptyDir" in volume}
    assert {key.split(".")[4] for key in told} == shared


def test_what_the_user_sees_is_what_was_written() -> None:
    service = a_service(
        entrypoint=["echo", "$(HOME)", "$$", "$5"], env=[{"name": "A", "value": "$$(A)"}]
    )
    around = Surroundings("agent:1", "Never", "http://10.0.0.1:8081", wrapper_text())
    main = build(submitted(), service, a_pool(), around)["spec"]["containers"][1]
    seen = [kubelet(word) for word in main["command"]]
    assert seen[2] == wrapper_text()
    assert seen[-4:] == ["echo", "$(HOME)", "$$", "$5"]
    assert kubelet(main["env"][-1]["value"]) == "$$(A)"


def test_the_users_container_sees_neither_token_nor_a_writable_job_folder() -> None:
    agent, main = build(submitted(), a_service(), a_pool(), AROUND)["spec"]["containers"]
    mounts = {m["name"]: m for m in main["volumeMounts"]}
    assert set(mounts) == {"work", "job", "tmp"}
    assert mounts["job"]["readOnly"] is True
    assert {"work", "job", "tmp", "token"} == {m["name"] for m in agent["volumeMounts"]}


def test_both_containers_run_as_one_numeric_uid_without_privileges() -> None:
    spec = build(submitted(), a_service(), a_pool(), AROUND)["spec"]
    assert spec["securityContext"]["runAsUser"] == 65532
    for container in spec["containers"]:
        context = container["securityContext"]
        assert "runAsUser" not in context
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert not spec.get("shareProcessNamespace")
    assert spec["automountServiceAccountToken"] is False


def test_the_backstop_comes_after_deadline_grace_and_upload() -> None:
    service = a_service(deadlineSeconds=100, graceSeconds=5, uploadSeconds=60)
    spec = build(submitted(), service, a_pool(), AROUND)["spec"]
    assert spec["terminationGracePeriodSeconds"] == 65
    assert spec["activeDeadlineSeconds"] > 165


def test_reference_data_is_there_and_cannot_be_written() -> None:
    spec = build(submitted(), a_service(data=["uniprot", "pdb70"]), a_pool(), AROUND)["spec"]
    agent, main = spec["containers"]
    mounts = {m["mountPath"]: m for m in main["volumeMounts"] if "/data" in m["mountPath"]}
    assert set(mounts) == {"/data/uniprot", "/data/pdb70"}
    assert all(m["readOnly"] for m in mounts.values())
    volumes = [v["persistentVolumeClaim"] for v in spec["volumes"] if v["name"].startswith("data")]
    assert volumes == [
        {"claimName": "uniprot", "readOnly": True},
        {"claimName": "pdb70", "readOnly": True},
    ]
    assert not any("/data" in m["mountPath"] for m in agent["volumeMounts"])


def test_the_agent_stops_a_job_before_the_kubelet_would_evict_it() -> None:
    service = a_service(resources={"ephemeralStorage": "1Gi"})
    spec = build(submitted(), service, a_pool(), AROUND)["spec"]
    [limit] = [int(e["value"]) for e in spec["containers"][0]["env"] if e["name"] == "DISK_BYTES"]
    assert limit == 1 << 30
    for volume in spec["volumes"]:
        if volume["name"] in {"work", "tmp"}:
            assert int(volume["emptyDir"]["sizeLimit"]) > limit


RUNC = {"name": "runc", "features": {"userNamespaces": True}}


def node(*handlers: Any) -> ClusterNode:
    body = node_body()
    body["status"]["runtimeHandlers"] = list(handlers)
    return ClusterNode.parse(body)


OFFERS, OFFERS_NOT = node(RUNC, {**RUNC, "name": ""}), node({"name": "", "features": {}})


@pytest.mark.parametrize(
    ("service", "nodes", "host_users"),
    [
        ({}, [OFFERS, OFFERS], False),
        ({}, [OFFERS, OFFERS_NOT], True),
        ({}, [OFFERS, ClusterNode.parse(node_body())], True),
        ({}, [node(RUNC), node("junk")], True),
        ({}, [], True),
        ({"data": ["uniprot"]}, [OFFERS], True),
        ({"runtimeClassName": "gvisor"}, [OFFERS], True),
        ({"hostUsers": True}, [OFFERS], True),
        ({"hostUsers": False, "data": ["uniprot"]}, [OFFERS_NOT], False),
    ],
)
def test_a_pod_has_users_of_its_own_where_its_nodes_offer_that(
    service: dict[str, Any], nodes: list[ClusterNode], host_users: bool
) -> None:
    spec = build(submitted(), a_service(**service), a_pool(), AROUND, nodes)["spec"]
    assert spec.get("hostUsers", True) is host_users


@pytest.mark.parametrize(
    ("text", "number"), [("2", 2), ("500m", "0.5"), ("4Gi", 4 << 30), ("1.5k", 1500), ("1Ki", 1024)]
)
def test_quantities(text: str, number: Any) -> None:
    assert amount(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Gi", "1Q", "1im"])
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        amount(text)
