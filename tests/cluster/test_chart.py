"""The chart: renders, refuses what is wrong with a sentence, and gives no more rights than used."""

import json
import re
import subprocess
from typing import Any

import jsonschema
import pytest
import yaml

from local.paths import CHART, LOCAL_VALUES
from local.toolchain import BIN
from orchestrator_crds import labels
from orchestrator_crds.names import SERVICE_ACCOUNT

GOOD = ("objectStore.minio.enabled=true",)


def render(*values: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(BIN / "helm"), "template", "orchestrator", str(CHART), "--namespace=orchestrator",
         *(f"--set={value}" for value in values)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr


def objects(*values: str) -> list[dict[str, Any]]:
    code, text = render(*values)
    assert code == 0, text
    return [body for body in yaml.safe_load_all(text) if body]


def of_kind(kind: str, *values: str) -> list[dict[str, Any]]:
    return [body for body in objects(*GOOD, *values) if body["kind"] == kind]


def test_lint() -> None:
    done = subprocess.run(
        [str(BIN / "helm"), "lint", "--strict", str(CHART), *(f"--set={v}" for v in GOOD)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", [CHART / "values.yaml", LOCAL_VALUES], ids=["default", "local"])
def test_values_keep_to_the_schema(file: Any) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(file.read_text()), schema)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["objectStore.endpoint=s3:443"], "Set objectStore.existingSecret, or existingSecret of"),
        (
            ["objectStore.endpoint=s3:443", "objectStore.api.existingSecret=keys"],
            "Set objectStore.existingSecret, or existingSecret of",
        ),
        ([*GOOD, "objectStore.serverSideEncryption=rot13"], "serverSideEncryption"),
        (["objectStore.existingSecret=keys"], "Set objectStore.endpoint to the HOST:PORT"),
        ([*GOOD, "api.replcias=2"], "replcias"),
        ([*GOOD, "jobs.namespace=orchestrator"], "jobs are shut in"),
        ([*GOOD, "api.replicas=0"], "replicas"),
        ([*GOOD, "images.api.digest=latest"], "digest"),
        ([*GOOD, "roles.viewers[0].kind=User"], "viewers"),
        ([*GOOD, "roles.viewer[0].kind=Robot", "roles.viewer[0].name=r2"], "kind"),
        ([*GOOD, "roles.viewer[0].kind=User"], "name"),
    ],
)
def test_a_mistake_in_the_values_is_refused_with_a_sentence(
    values: list[str], sentence: str
) -> None:
    code, text = render(*values)
    assert code != 0
    assert sentence in text


def test_crds_come_with_the_chart_and_stay_when_it_goes() -> None:
    kept = of_kind("CustomResourceDefinition")
    assert len(kept) == 4
    assert {c["metadata"]["annotations"]["helm.sh/resource-policy"] for c in kept} == {"keep"}
    assert not of_kind("CustomResourceDefinition", "crds.install=false")
    assert not any(
        "annotations" in c["metadata"]
        for c in of_kind("CustomResourceDefinition", "crds.keep=false")
    )


def test_every_container_keeps_to_pod_security_restricted() -> None:
    for deployment in of_kind("Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]


def test_rights_are_bound_to_two_namespaces_and_name_no_wildcard() -> None:
    # But for nodes, which belong to no namespace, and are only read.
    (role,) = of_kind("ClusterRole")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}
    ]
    assert len(of_kind("ClusterRoleBinding")) == 1
    for role in of_kind("Role"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            assert "secrets" not in rule["resources"]


PEOPLE = {"orchestrator-viewer", "orchestrator-submitter", "orchestrator-quota-manager"}


def names(kind: str, *values: str) -> set[str]:
    return {body["metadata"]["name"] for body in of_kind(kind, *values)}


def test_peoples_roles_are_there_and_bound_to_nobody_but_by_the_values() -> None:
    assert names("Role") >= PEOPLE
    assert not names("RoleBinding") & PEOPLE
    subject = ("roles.quotaManager[0].kind=Group", "roles.quotaManager[0].name=chemists")
    assert names("RoleBinding", *subject) & PEOPLE == {"orchestrator-quota-manager"}
    (bound,) = [
        body
        for body in of_kind("RoleBinding", *subject)
        if body["metadata"]["name"] == "orchestrator-quota-manager"
    ]
    assert bound["subjects"] == [{"kind": "Group", "name": "chemists"}]
    assert bound["roleRef"]["name"] == bound["metadata"]["name"]
    assert bound["metadata"]["namespace"] == "orchestrator-jobs"


def test_people_get_nothing_but_our_own_resources_and_write_no_status() -> None:
    for role in of_kind("Role"):
        if role["metadata"]["name"] in PEOPLE:
            for rule in role["rules"]:
                assert rule["apiGroups"] == ["orchestrator.dev"]
                assert not any("/" in resource for resource in rule["resources"])


def test_every_admission_policy_is_bound_and_denies() -> None:
    for values in ((), ("jobs.bindUserToCaller=false",)):
        bindings = of_kind("ValidatingAdmissionPolicyBinding", *values)
        assert all(b["spec"]["validationActions"] == ["Deny"] for b in bindings)
        bound = [b["spec"]["policyName"] for b in bindings]
        assert sorted(bound) == sorted(names("ValidatingAdmissionPolicy", *values))
        assert ("orchestrator-job-user.orchestrator.dev" in bound) is (not values)


def test_policies_name_the_account_and_the_label_that_pods_of_jobs_have() -> None:
    text = json.dumps(of_kind("ValidatingAdmissionPolicy"))
    assert text.count(f"object.spec.serviceAccountName == '{SERVICE_ACCOUNT}'") == 1
    assert text.count(f"'{labels.JOB}' in object.metadata.labels") == 1
    assert text.count(f"request.name == '{SERVICE_ACCOUNT}'") == 1


def test_an_object_store_of_ones_own_brings_no_minio() -> None:
    values = (
        "objectStore.endpoint=s3.example.org:443",
        "objectStore.secure=true",
        "objectStore.existingSecret=keys",
    )
    assert not any("minio" in body["metadata"]["name"] for body in objects(*values))


EXTERNAL = "objectStore.endpoint=s3.example.org:443"


@pytest.mark.parametrize(
    ("values", "api", "operator"),
    [
        ([EXTERNAL, "objectStore.existingSecret=k"], "k", "k"),
        ([EXTERNAL, "objectStore.existingSecret=k", "objectStore.api.existingSecret=a"], "a", "k"),
        (
            [EXTERNAL, "objectStore.operator.existingSecret=o", "objectStore.api.existingSecret=a"],
            "a", "o",
        ),
        (list(GOOD), "orchestrator-minio-api", "orchestrator-minio-operator"),
        ([*GOOD, "objectStore.existingSecret=k"], "k", "k"),
    ],
)  # fmt: skip
def test_operator_and_api_have_keys_of_their_own_and_root_is_minios_alone(
    values: list[str], api: str, operator: str
) -> None:
    made = objects(*values)
    used: dict[str, set[str]] = {"api": set(), "operator": set(), "minio": set()}
    for body in made:
        if body["kind"] == "Deployment":
            text = json.dumps(body["spec"]["template"]["spec"])
            found = re.findall(r'"secretKeyRef": {"key": "\w+", "name": "([^"]+)"}', text)
            found += re.findall(r'"secretKeyRef": {"name": "([^"]+)"', text)
            part = body["metadata"]["name"].removeprefix("orchestrator-")
            used[part] = set(found)
    minio = {"orchestrator-minio-root"} if values[0] == GOOD[0] else set()
    assert used == {"api": {api}, "operator": {operator}, "minio": minio}
    secrets = {body["metadata"]["name"]: body["data"] for body in made if body["kind"] == "Secret"}
    assert set(secrets) == {n for n in {api, operator} | minio if "minio" in n}
    assert len({value for data in secrets.values() for value in data.values()}) == 2 * len(secrets)


def test_a_digest_wins_over_a_tag() -> None:
    digest = "sha256:" + "0" * 64
    texts = [json.dumps(d) for d in of_kind("Deployment", f"images.api.digest={digest}")]
    assert any(f"orchestrator/api@{digest}" in text for text in texts)
