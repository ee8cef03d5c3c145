"""The chart: renders, refuses what is wrong with a sentence, and gives no more rights than used."""

import json
import re
import subprocess
from typing import Any

import httpx2
import jsonschema
import pytest
import yaml

from local.paths import CHART, JOBS_NAMESPACE, LOCAL_VALUES, RELEASE
from local.toolchain import BIN, KUBERNETES, SCORE
from orchestrator_crds import labels
from orchestrator_crds.meta import API_VERSION
from orchestrator_crds.names import SERVICE_ACCOUNT, audience
from tests.cluster.place import Place, until

GOOD = ("objectStore.minio.enabled=true",)


ELSEWHERE, KEYS = "objectStore.endpoint=s3.example.org:443", "objectStore.existingSecret=keys"
EXTERNAL = (ELSEWHERE, KEYS)
VARIANTS = {
    "default": GOOD,
    "an object store of one's own": EXTERNAL,
    "several replicas": (*GOOD, "api.replicas=3"),
    "identity and TLS": (
        *GOOD, "identity.apiKeys.existingSecret=keys", "api.tls.existingSecret=certificate",
        "identity.oidc.issuer=https://id.example.org", "identity.oidc.audience=orchestrator",
        "callbacks.existingSecret=signing", "callbacks.allowedHosts[0]=portal.example.org",
    ),
}  # fmt: skip
MINOR = f"v{KUBERNETES.rpartition('.')[0]}"
# What kube-score finds critical and is left, and why. Nor is a limit of CPU asked for: it slows answers
# down, and requests share the processor.
LEFT = {
    "container-image-pull-policy": "IfNotPresent: tags here are versions, or digests, which do not "
    "come to mean another image; so a pod starts while the registry is away",
    "networkpolicy-targets-pod": "of jobs' pods, which are made by the operator",
}


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


def score(text: str) -> set[tuple[str, str]]:
    """Return kube-score's critical findings in manifests: (kind, check)."""
    done = subprocess.run(
        [str(SCORE), "score", f"--kubernetes-version={MINOR}", "--ignore-container-cpu-limit",
         "--output-format=json", "-"],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        (found["type_meta"]["kind"], check["check"]["id"])
        for found in json.loads(done.stdout)
        for check in found["checks"]
        if check["grade"] == 1 and not check["skipped"]
    }


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_kube_score_finds_nothing_critical_but_what_is_explained(values: tuple[str, ...]) -> None:
    text = render(*values)[1]
    assert {check for _, check in score(text)} <= set(LEFT)
    for guard, without, finding in (
        ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false",
         "container-security-context-readonlyrootfilesystem"),
        ("memory: 1Gi", "", "container-resources"),
    ):  # fmt: skip
        assert ("Deployment", finding) in score(text.replace(guard, without))


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_pod_security_restricted_lets_every_pod_of_the_chart_in(
    place: Place, values: tuple[str, ...]
) -> None:
    enforced = place.get("namespace", JOBS_NAMESPACE)["metadata"]["labels"]
    assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"
    templates = [b["spec"]["template"] for b in objects(*values) if "template" in b.get("spec", {})]
    assert len(templates) >= 2
    for template in templates:
        spec = {**template["spec"], "serviceAccountName": "default"}
        assert "(server dry run)" in tried(place, spec)
        del spec["securityContext"]["runAsNonRoot"]
        assert 'violates PodSecurity "restricted' in tried(place, spec)


def tried(place: Place, spec: dict[str, Any]) -> str:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried"}, "spec": spec}
    return place.kubectl(
        "create", "--dry-run=server", "--filename=-", stdin=json.dumps(body), check=False
    )


def test_who_may_call_is_a_matter_of_the_port() -> None:
    (policy,) = [
        body["spec"]
        for body in of_kind(
            "NetworkPolicy", "networkPolicy.callers[0].podSelector.matchLabels.app=portal"
        )
        if body["metadata"]["name"] == "orchestrator-api"
    ]
    public, inner = policy["ingress"]
    assert public == {
        "ports": [{"protocol": "TCP", "port": 5000}],
        "from": [{"podSelector": {"matchLabels": {"app": "portal"}}}],
    }
    # That the canary is shut must be the doing of the job's own policy.
    assert {port["port"] for port in inner["ports"]} == {8081, 8082}
    assert "from" not in inner


DIGEST = "@sha256:" + "0" * 64


def test_images_of_services_and_the_number_of_jobs_can_be_bounded(place: Place) -> None:
    def answer(image: str) -> str:
        spec = {"image": image, "nodePools": ["cpu"]}
        body = {"apiVersion": API_VERSION, "kind": "OrchestratorService", "spec": spec}
        text = json.dumps({**body, "metadata": {"name": "imaged"}})
        return place.kubectl("create", "--dry-run=server", "-f-", stdin=text, check=False)

    settings = (
        "services.allowedImages[0]=example.org/tools/gdock",
        "services.allowedImages[1]=localhost/orchestrator/",
    )
    # Unless told otherwise, any.
    assert "(server dry run)" in answer("example.org/tools/gdock-evil:1")
    with place.configured(*settings, "services.requireImageDigest=true"):
        until(lambda: "by digest" in answer("localhost/orchestrator/x:1"), "the policy is there")
        for good in (
            "example.org/tools/gdock",
            "example.org/tools/gdock:1",
            "localhost/orchestrator/x",
        ):
            assert "(server dry run)" in answer(good + DIGEST)
        for bad in (
            "example.org/tools/gdock-evil",
            "example.org/tools",
            "evil.org/localhost/orchestrator/x",
        ):
            assert "is not among those that services.allowedImages lists" in answer(bad + DIGEST)

    with place.configured("jobs.maxObjects=1"):
        quota = f"{RELEASE}-jobs"
        until(lambda: place.get("resourcequota", quota).get("status", {}).get("used"), "it counts")
        place.apply("OrchestratorQuota", "shut", {"onlyUsers": ["77"], "maxRunning": 0})
        until(lambda: not taken(place), "there are too many")


def taken(place: Place) -> bool:
    """Upload a job; returns whether it was taken, and checks how it was refused if not."""
    form = {"user_id": "77", "service": "example"}
    answer = httpx2.post(
        f"{place.front}/upload", data=form, files=[("file", ("run.sh", b"true"))], timeout=60
    )
    if answer.status_code == 201:
        place.made.append(f"orchestratorjob/job-{answer.json()['id']}")
        return True
    assert answer.status_code == 503, answer.text
    assert "Kubernetes refuses this now" in answer.json()["message"]
    return False


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
    # Whoever makes such pods is the operator, and the operator makes no others.
    assert text.count(f"object.spec.serviceAccountName == '{SERVICE_ACCOUNT}'") == 2
    assert text.count(f"'{labels.JOB}' in object.metadata.labels") == 2
    assert text.count(f"audience.startsWith('{audience('')}')") == 1
    assert text.count(f"request.name == '{SERVICE_ACCOUNT}'") == 1


def test_an_object_store_of_ones_own_brings_no_minio() -> None:
    made = objects(*EXTERNAL, "objectStore.secure=true")
    assert not any("minio" in body["metadata"]["name"] for body in made)


@pytest.mark.parametrize(
    ("values", "api", "operator"),
    [
        ([ELSEWHERE, KEYS], "keys", "keys"),
        ([ELSEWHERE, KEYS, "objectStore.api.existingSecret=a"], "a", "keys"),
        (
            [ELSEWHERE, "objectStore.operator.existingSecret=o", "objectStore.api.existingSecret=a"],
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
