"""Who may do what with kubectl: the rights of five identities, and what people try beyond theirs."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest

from local.paths import JOBS_NAMESPACE, NAMESPACE, RELEASE
from orchestrator_crds import labels
from orchestrator_crds.meta import API_VERSION
from orchestrator_crds.names import SERVICE_ACCOUNT, audience
from tests.cluster.place import Place, until

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
# Who has which of our Roles. Penny may make jobs for others; Nadia may do everything, in the jobs'
# namespace.
BOUND = {
    f"{RELEASE}-viewer": ["vera"],
    f"{RELEASE}-submitter": ["alice", "bob", "penny"],
    f"{RELEASE}-quota-manager": ["quinn"],
    "test-on-behalf": ["penny"],
    "test-everything": ["nadia"],
}
MADE_FOR_TESTS = {
    "test-on-behalf": (["orchestrator.dev"], ["orchestratorjobs"], ["impersonate"]),
    "test-everything": (["*"], ["*"], ["*"]),
}
IDENTITIES = {
    "operator": f"{ACCOUNT}-operator",
    "api": f"{ACCOUNT}-api",
    "viewer": "vera",
    "submitter": "alice",
    "quota-manager": "quinn",
}
ADMINISTRATOR = ""
ROW = re.compile(r"(\S+)\s+\[.*?\]\s+\[(.*?)\]\s+\[(.*?)\]")

# Jobs of Alice and Bob, which wait all the time.
MINE, BOBS = "roles-mine", "roles-bobs"
SHUT = "roles-shut"
SPEC = {"service": "example", "userID": "alice", "script": "true"}
INPUTS = {"key": "jobs/f/inputs.zip", "sizeBytes": 1, "sha256": "0" * 64}
OWNER = {"apiVersion": API_VERSION, "kind": "OrchestratorJob", "name": BOBS, "uid": "0"}
JOBS = f"/apis/{API_VERSION}/namespaces/{JOBS_NAMESPACE}/orchestratorjobs"
# Of a name that no job has, lest the administrator delete any.
MANY = f"{JOBS}?dryRun=All&fieldSelector=metadata.name%3Droles-none"
POD = f"/api/v1/namespaces/{JOBS_NAMESPACE}/pods/{BOBS}-1"
DRY = "--dry-run=server"

# What the answer to something that would have worked holds.
# What kubectl says of a dry run that is let through; of a patch it only says what was done.
FINE, PATCHED = "(server dry run)", " patched"
NOT_YOURS = "'; only jobs of your own are yours to make, change or delete"
FOR_BOB = f"the job's spec.userID is 'bob' and your name is 'alice{NOT_YOURS}"
FIXED = "only terminate and priority can be changed"
BY_THE_API = "spec.id and spec.inputs are set by the API alone"
FEW = "a job has at most 64 labels"
STATUS = "status is written by the operator and the API alone"
PODS = "are made by the operator alone; create an OrchestratorJob instead"
OPERATOR = f"{ACCOUNT}-operator"
POLICIES = "the operator writes no policies but egress-<service>, for the jobs of that service"
ITS_PODS = "the operator makes pods of jobs alone, with the account orchestrator-job and the label"
VOLUMES = (
    "the operator gives pods no volumes but emptyDir, persistentVolumeClaim and a token for the"
)
PLAIN = (
    "the operator's pods take no environment from elsewhere, no devices and no containers but their"
)
HINTS = "tells a container runtime nothing by annotations but which volumes gVisor is to share"
WHOLE = "the operator's pods mount whole volumes"
RESTRICTED = 'violates PodSecurity "restricted:latest": restricted volume types'
TOKENS = f"tokens of the account {SERVICE_ACCOUNT} are for the pods of jobs alone"


class Act(NamedTuple):
    """Something that somebody does with kubectl."""

    words: tuple[str, ...]
    body: dict[str, Any] | None = None
    user: str = "alice"

    def by(self, user: str) -> "Act":
        return self._replace(user=user)

    def done(self, place: Place) -> str:
        """Do it; returns what kubectl says."""
        mask = (f"--as={self.user}",) if self.user else ()
        stdin = json.dumps(self.body) if self.body is not None else None
        return place.kubectl(*self.words, *mask, stdin=stdin, check=False)


class Row(NamedTuple):
    """What is tried and a part of the answer; and what differs in one thing, and is let through."""

    what: str
    act: Act
    answer: str = FINE
    twin: Act | None = None
    twins_answer: str = FINE


def create(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> Act:
    body = {
        "apiVersion": "v1" if kind == "Pod" else API_VERSION,
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }
    return Act(("create", DRY, "--filename=-"), body)


def job(name: str = "roles-new", *, metadata: dict[str, Any] | None = None, **spec: Any) -> Act:
    return create("OrchestratorJob", name, {**SPEC, **spec}, **(metadata or {}))


def some(count: int) -> dict[str, str]:
    return {f"example.org/{n}": "x" for n in range(count)}


def pod(
    name: str = "roles-pod",
    account: str = SERVICE_ACCOUNT,
    more: dict[str, Any] | None = None,
    container: dict[str, Any] | None = None,
    **metadata: Any,
) -> Act:
    """Return the making of a pod that "restricted" allows, with *more* in it and in its container."""
    spec = {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {"name": "c", "image": "x", "securityContext": HARDENED, **(container or {})}
        ],
        **(more or {}),
    }
    return create("Pod", name, spec, **metadata)


def operators(**more: Any) -> Act:
    """Return the making of a job's pod by the operator."""
    return pod(labels={labels.JOB: BOBS}, **more).by(OPERATOR)


def holding(volume: dict[str, Any]) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **volume}]}


def mounting(**more: str) -> dict[str, Any]:
    return {"volumeMounts": [{"name": "v", "mountPath": "/v", **more}]}


def policy(name: str = "egress-example", **spec: Any) -> Act:
    out = {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]}
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {
            "podSelector": {"matchLabels": {labels.SERVICE: "example"}},
            "policyTypes": ["Egress"],
            "egress": [out],
            **spec,
        },
    }
    return Act(("create", DRY, "--filename=-"), body)


# What the operator could open with a policy of its own, if it were somebody else's.
WIDE: dict[str, dict[str, Any]] = {
    "a policy of another name by the operator": {"name": f"{RELEASE}-egress"},
    "one for every job": {"podSelector": {}},
    "one for another service": {"podSelector": {"matchLabels": {labels.SERVICE: "docking"}}},
    "one that lets in": {"policyTypes": ["Ingress", "Egress"]},
    "one to everywhere": {"egress": [{}]},
    "one to a list of nobody, which is everybody": {
        "egress": [{"to": [], "ports": [{"port": 443}]}]
    },
    "one to a list of no port, which is every port": {
        "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": []}]
    },
    "one to every port": {"egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]},
    "one to pods": {"egress": [{"to": [{"podSelector": {}}], "ports": [{"port": 443}]}]},
}
# A service whose policy is there, so that the operator can be seen to change it.
OUT = "roles-out"
ITS_POLICY = f"/apis/networking.k8s.io/v1/namespaces/{JOBS_NAMESPACE}/networkpolicies/egress-{OUT}?dryRun=All"
# Volumes that lead out of a pod, which Pod Security refuses to everybody.
LEADING_OUT: dict[str, dict[str, Any]] = {
    "hostPath": {"path": "/"},
    "gitRepo": {"repository": "https://example.org/x"},
    "nfs": {"server": "192.0.2.1", "path": "/"},
    "iscsi": {"targetPortal": "192.0.2.1", "iqn": "iqn.2001-04.com.example:x", "lun": 0},
    "fc": {"wwids": ["x"]},
    "rbd": {"monitors": ["192.0.2.1"], "image": "x"},
    "cephfs": {"monitors": ["192.0.2.1"]},
    "glusterfs": {"endpoints": "x", "path": "x"},
}
# And those that it lets through, and our own policy does not.
OF_OTHERS: dict[str, dict[str, Any]] = {
    "image": {"reference": "x"},
    "secret": {"secretName": "x"},
    "configMap": {"name": "x"},
    "downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "metadata.name"}}]},
    "csi": {"driver": "example.org"},
    "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}}},
    "projected": {"sources": [{"secret": {"name": "x"}}]},
}  # fmt: skip
HARDENED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
EARLY = {"name": "early", "image": "x", "securityContext": HARDENED}
FOR_THE_API_SERVER = {"sources": [{"serviceAccountToken": {"path": "x"}}]}
FOR_THE_GATEWAY = {"sources": [{"serviceAccountToken": {"path": "x", "audience": audience("0")}}]}


def patch(kind: str, name: str, change: dict[str, Any], *words: str) -> Act:
    return Act(("patch", kind, name, "--type=merge", f"--patch={json.dumps(change)}", DRY, *words))


def edit(name: str, **spec: Any) -> Act:
    return patch("oj", name, {"spec": spec})


def mark(name: str, **metadata: Any) -> Act:
    return patch("oj", name, {"metadata": metadata})


def raw(verb: str, path: str, body: dict[str, Any] | None = None) -> Act:
    words = (verb, f"--raw={path}")
    return Act(words) if verb in {"get", "delete"} else Act((*words, "--filename=-"), body or {})


def cannot(verb: str, resource: str) -> str:
    return f'cannot {verb} resource "{resource}"'


def entering(what: str, act: Act, verb: str, resource: str) -> Row:
    """Return a row about a pod that is not there, as the administrator is told."""
    return Row(what, act, cannot(verb, resource), act.by(ADMINISTRATOR), "not found")


EVICTION = {
    "apiVersion": "policy/v1",
    "kind": "Eviction",
    "metadata": {"name": f"{BOBS}-1", "namespace": JOBS_NAMESPACE},
}
POD_BODY = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{BOBS}-1"}}
QUOTA = create("OrchestratorQuota", "roles-quota", {"maxRunning": 99})
SERVICE = create("OrchestratorService", "roles-service", {"image": "x", "nodePools": ["cpu"]})
POOL = create("OrchestratorNodePool", "roles-pool", {"nodeSelector": {"a": "b"}})
ROLES = ("create", "rolebinding", "roles-more", f"--role={RELEASE}-quota-manager", "--user=alice")
PHASE = "--output=jsonpath={.status.phase}"

MAKING = [
    Row("a job of her own", job()),
    Row("a job for another", job(userID="bob"), FOR_BOB, job(userID="bob").by("penny")),
    Row("a name that is nearly hers", job(userID="Alice"), f"'Alice' and your name is 'alice{NOT_YOURS}", job()),
    Row("a job for nobody", job(userID=None), "spec.userID", job()),
    Row("a huge script", job(script="x" * 65537), "spec.script", job(script="x" * 65536)),
    Row("no script", job(script=None), "give either inputs", job()),
    Row("a number", job("job-2000000000", id=2000000000), BY_THE_API, job()),
    Row("another's bundle", job(inputs=INPUTS, script=None), BY_THE_API, job()),
    Row("the name of a number", job("job-2000000000"), "names of the form job-<number>", job("job-2e9")),
    Row("a long name", job("x" * 53), "may not be more than 52", job("x" * 52)),
    Row("a high priority", job(priority=101), "spec.priority", job(priority=100)),
    Row("an image", job(image="x"), 'unknown field "spec.image"', job()),
    Row("a host path", job(volumes=[{"hostPath": {"path": "/"}}]), 'unknown field "spec.volumes"', job()),
    Row("environment", job(env=[{"name": "A", "value": "b"}]), 'unknown field "spec.env"', job()),
    Row("a pool", job(nodePool="gpu"), 'unknown field "spec.nodePool"', job()),
    Row("a node", job(nodeSelector={"a": "b"}), 'unknown field "spec.nodeSelector"', job()),
    # What is let through, since nothing of ours reads it.
    Row("a status at creation", Act(("create", DRY, "--filename=-", PHASE), {**(job().body or {}), "status": {"phase": "Completed"}}), "Queued"),
    Row("a finalizer", job(metadata={"finalizers": ["example.org/stay"]})),
    Row("an owner", job(metadata={"ownerReferences": [OWNER]})),
    Row("many labels", job(metadata={"labels": some(65)}), FEW, job(metadata={"labels": some(64)})),
    Row("many annotations", job(metadata={"annotations": some(65)}), FEW, job(metadata={"annotations": some(64)})),
    Row("many finalizers", job(metadata={"finalizers": [f"example.org/{n}" for n in range(17)]}), FEW, job(metadata={"finalizers": [f"example.org/{n}" for n in range(16)]})),
    Row("many owners", job(metadata={"ownerReferences": [OWNER | {"uid": str(n)} for n in range(17)]}), FEW, job(metadata={"ownerReferences": [OWNER | {"uid": str(n)} for n in range(16)]})),
    Row("a device with a long name", job(resources={"extended": {"x" * 318: "1"}}), "has at most 317 characters", job(resources={"extended": {"x" * 317: "1"}})),
    Row("our labels", job(metadata={"labels": {labels.JOB: BOBS, labels.ATTEMPT: "1"}})),
]  # fmt: skip
CHANGING = [
    Row("stops hers", edit(MINE, terminate=True)),
    Row("ranks hers", edit(MINE, priority=1)),
    Row("marks hers often", mark(MINE, labels=some(65)), FEW, mark(MINE, labels=some(64)), PATCHED),
    Row("marks hers", mark(MINE, labels={"a": "b"}, finalizers=["example.org/stay"])),
    Row("deletes hers", Act(("delete", "oj", MINE, DRY))),
    Row("sees another's", Act(("get", "oj", BOBS, "--output=name")), f"orchestratorjob.orchestrator.dev/{BOBS}"),
    Row("gives hers away", edit(MINE, userID="bob"), FIXED, edit(MINE, priority=1)),
    Row("moves hers", edit(MINE, service="docking"), FIXED, edit(MINE, priority=1)),
    Row("rewrites hers", edit(MINE, script="echo"), FIXED, edit(MINE, script="true", priority=1)),
    Row("widens hers", edit(MINE, activeDeadlineSeconds=9), FIXED, edit(MINE, priority=1)),
    Row("numbers hers", edit(MINE, id=7), FIXED, edit(MINE, priority=1)),
    Row("stops another's", edit(BOBS, terminate=True), FOR_BOB, edit(BOBS, terminate=True).by("bob")),
    Row("ranks another's", edit(BOBS, priority=-1), FOR_BOB, edit(BOBS, priority=-1).by("bob")),
    Row("marks another's", mark(BOBS, labels={"a": "b"}), FOR_BOB, mark(BOBS, labels={"a": "b"}).by("bob")),
    Row("keeps another's", mark(BOBS, finalizers=["example.org/stay"]), FOR_BOB, mark(MINE, finalizers=["example.org/stay"])),
    Row("owns another's", mark(BOBS, ownerReferences=[OWNER]), FOR_BOB, mark(MINE, ownerReferences=[OWNER])),
    Row("deletes another's", Act(("delete", "oj", BOBS, DRY)), FOR_BOB, Act(("delete", "oj", BOBS, DRY)).by("bob")),
    Row("deletes many", raw("delete", MANY), cannot("deletecollection", "orchestratorjobs"), raw("delete", MANY).by(ADMINISTRATOR), "OrchestratorJob"),
    Row("patches its status", patch("oj", MINE, {"status": {"phase": "Completed"}}, "--subresource=status"), 'resource "orchestratorjobs/status"', patch("oj", MINE, {"status": {"exitCode": 0}}, "--subresource=status").by(ADMINISTRATOR)),
    Row("replaces its status", raw("replace", f"{JOBS}/{MINE}/status?dryRun=All", job(MINE).body), cannot("update", "orchestratorjobs/status")),
    Row("a status beside the spec", Act((*patch("oj", MINE, {"status": {"phase": "Completed"}}).words, PHASE)), "Queued"),
]  # fmt: skip
BEYOND = [
    Row("another attempt's pod", pod(f"{BOBS}-1"), cannot("create", "pods"), pod(f"{BOBS}-1").by(ADMINISTRATOR)),
    entering("exec", raw("create", f"{POD}/exec?command=id"), "create", "pods/exec"),
    entering("attach", raw("create", f"{POD}/attach"), "create", "pods/attach"),
    entering("port-forward", raw("create", f"{POD}/portforward?ports=80"), "create", "pods/portforward"),
    entering("debug", raw("replace", f"{POD}/ephemeralcontainers", POD_BODY), "update", "pods/ephemeralcontainers"),
    entering("evict", raw("create", f"{POD}/eviction", EVICTION), "create", "pods/eviction"),
    entering("logs", raw("get", f"{POD}/log"), "get", "pods/log"),
    entering("a pod's end", raw("delete", POD), "delete", "pods"),
    Row("pods", Act(("get", "pods")), cannot("list", "pods")),
    Row("secrets", Act(("get", "secrets")), cannot("list", "secrets")),
    Row("a token", Act(("create", "token", SERVICE_ACCOUNT)), cannot("create", "serviceaccounts/token")),
    Row("a quota", QUOTA, cannot("create", "orchestratorquotas"), QUOTA.by("quinn")),
    Row("a quota's edit", patch("oq", SHUT, {"spec": {"maxRunning": 9}}), cannot("patch", "orchestratorquotas"), patch("oq", SHUT, {"spec": {"maxRunning": 9}}).by("quinn")),
    Row("a quota's end", Act(("delete", "oq", SHUT, DRY)), cannot("delete", "orchestratorquotas"), Act(("delete", "oq", SHUT, DRY)).by("quinn")),
    Row("a service", SERVICE, cannot("create", "orchestratorservices"), SERVICE.by(ADMINISTRATOR)),
    Row("a service's image", patch("osvc", "example", {"spec": {"image": "x"}}), cannot("patch", "orchestratorservices"), patch("osvc", "example", {"spec": {"image": "x"}}).by(ADMINISTRATOR)),
    Row("a pool", POOL, cannot("create", "orchestratornodepools"), POOL.by(ADMINISTRATOR)),
    Row("more rights", Act((*ROLES, DRY)), cannot("create", "rolebindings"), Act((*ROLES, DRY)).by(ADMINISTRATOR)),
    Row("a viewer's job", job(userID="vera").by("vera"), cannot("create", "orchestratorjobs"), job()),
    Row("a quota manager's job", job(userID="quinn").by("quinn"), cannot("create", "orchestratorjobs"), job()),
    Row("a quota manager's service", SERVICE.by("quinn"), cannot("create", "orchestratorservices"), SERVICE.by(ADMINISTRATOR)),
    Row("a job elsewhere", Act((*job().words, f"--namespace={NAMESPACE}"), job().body), cannot("create", "orchestratorjobs")),
]  # fmt: skip
SEEN = {"status": {"observedGeneration": 1}}
STATUSES = [("oj", MINE), ("osvc", "example"), ("oq", SHUT), ("onp", "cpu")]
CONTROLLER = "system:serviceaccount:kube-system:replicaset-controller"
NAMESPACE_ADMINISTRATOR = [
    *(
        Row(
            f"the status of {kind}",
            patch(kind, name, SEEN, "--subresource=status").by("nadia"),
            STATUS,
            patch(kind, name, SEEN, "--subresource=status").by(ADMINISTRATOR),
        )
        for kind, name in STATUSES
    ),
    Row("a pod with the account of jobs", pod().by("nadia"), PODS, pod(account="default").by("nadia")),
    Row("a pod with the label of jobs", pod(account="default", labels={labels.JOB: BOBS}).by("nadia"), PODS, pod(account="default", labels={"job": BOBS}).by("nadia")),
    Row("such a pod by way of a controller", pod().by(CONTROLLER), PODS, pod(account="default").by(CONTROLLER)),
    Row("a token of the account of jobs", Act(("create", "token", SERVICE_ACCOUNT)).by("nadia"), TOKENS, Act(("create", "token", "default")).by("nadia"), "eyJ"),
    Row("another's bundle", job(inputs=INPUTS, script=None).by("nadia"), BY_THE_API, job().by("nadia")),
    Row("what shuts jobs in, taken away by the operator", Act(("delete", "networkpolicy", f"{RELEASE}-jobs", DRY)).by(OPERATOR), POLICIES, Act(("delete", "networkpolicy", f"{RELEASE}-jobs", DRY)).by("nadia")),
    *(
        Row(what, policy(**wrong).by(OPERATOR), POLICIES, policy().by(OPERATOR))
        for what, wrong in WIDE.items()
    ),
    Row("such a pod by the API", pod().by(f"{ACCOUNT}-api"), cannot("create", "pods"), operators()),
    Row("one that is there, opened", raw("replace", ITS_POLICY, policy(f"egress-{OUT}", podSelector={}).body).by(OPERATOR), POLICIES, raw("replace", ITS_POLICY, policy(f"egress-{OUT}", podSelector={"matchLabels": {labels.SERVICE: OUT}}).body).by(OPERATOR), '"kind":"NetworkPolicy"'),
]  # fmt: skip
# What a taken operator could put into pods: kinds of volumes, accounts, Secrets, devices.
IN_PODS = [
    *(
        Row(f"a volume of {kind}", pod(account="default", more=holding({kind: body})).by("nadia"), RESTRICTED, Act((*pod().words, "--namespace=default"), pod(account="default", more=holding({kind: body})).body, ADMINISTRATOR))
        for kind, body in LEADING_OUT.items()
    ),
    *(Row(f"a volume of {kind} by the operator", operators(more=holding({kind: body})), RESTRICTED) for kind, body in LEADING_OUT.items()),
    *(
        Row(kind, operators(more=holding({kind: body})), VOLUMES, pod(account="default", more=holding({kind: body})).by("nadia"))
        for kind, body in OF_OTHERS.items()
    ),
    Row("a token for the API server", operators(more=holding({"projected": FOR_THE_API_SERVER})), VOLUMES, operators(more=holding({"projected": FOR_THE_GATEWAY}))),
    Row("a claim", operators(more=holding({"persistentVolumeClaim": {"claimName": "x"}}))),
    Row("a folder", operators(more=holding({"emptyDir": {}}))),
    Row("another account", pod(account="default", labels={labels.JOB: BOBS}).by(OPERATOR), ITS_PODS, operators()),
    Row("a pod that is no job's", pod().by(OPERATOR), ITS_PODS, operators()),
    Row("a token of its own", operators(more={"automountServiceAccountToken": True}), ITS_PODS, operators()),
    Row("a Secret as a variable", operators(container={"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "x", "key": "x"}}}]}), PLAIN, operators(container={"env": [{"name": "X", "value": "x"}]})),
    Row("a Secret as variables", operators(container={"envFrom": [{"secretRef": {"name": "x"}}]}), PLAIN, operators()),
    Row("a disk as a device", operators(more=holding({"persistentVolumeClaim": {"claimName": "x"}}), container={"volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}), PLAIN, operators()),
    Row("a claimed device", operators(more={"resourceClaims": [{"name": "x", "resourceClaimName": "x"}]}), PLAIN, operators()),
    *(
        Row(f"the annotation {key}", operators(annotations={key: "x"}), HINTS, operators(annotations={"dev.gvisor.spec.mount.work.share": "pod", "note": "x"}))
        for key in ("dev.gvisor.flag.host-uds", "dev.gvisor.spec.rootfs.source", "io.katacontainers.config.hypervisor.kernel", "io.kubernetes.cri-o.Devices")
    ),
    *(
        Row(f"a {key} of a volume", operators(more=holding({"emptyDir": {}}), container=mounting(**{key: "x"})), WHOLE, operators(more=holding({"emptyDir": {}}), container=mounting()))
        for key in ("subPath", "subPathExpr")
    ),
    Row("a container before its own", operators(more={"initContainers": [EARLY]}), PLAIN, operators()),
]  # fmt: skip


def manifests() -> list[dict[str, Any]]:
    """Return everybody's rights, a job each of Alice and Bob, and what makes those wait."""
    found = []
    for name, (groups, resources, verbs) in MADE_FOR_TESTS.items():
        rule = {"apiGroups": groups, "resources": resources, "verbs": verbs}
        found.append({**rbac("Role", name), "rules": [rule]})
    for role, users in BOUND.items():
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
        subjects = [{"kind": "User", "name": user} for user in users]
        binding = rbac("RoleBinding", f"test-{role}")
        found.append({**binding, "roleRef": reference, "subjects": subjects})
    shut = {"onlyUsers": ["alice", "bob"], "maxRunning": 0}
    way = {"cidr": "192.0.2.0/24", "ports": [{"port": 443}]}
    out = create("OrchestratorService", OUT, {"image": "x", "nodePools": ["cpu"], "egress": [way]})
    waiting = [out, create("OrchestratorQuota", SHUT, shut), job(MINE), job(BOBS, userID="bob")]
    return [*found, *(act.body for act in waiting if act.body)]


def rbac(kind: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
    }


@pytest.fixture(scope="module", autouse=True)
def people(chosen: Place) -> Iterator[None]:
    """Give people their rights, and two of them a job that waits."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests()})
    chosen.kubectl("apply", "--filename=-", stdin=text)
    may = [("get", user) for users in BOUND.values() for user in users]
    for verb, user in [*may, ("impersonate", "penny")]:
        until(partial(allowed, chosen, verb, user), f"{user} may {verb} jobs")
    until(lambda: chosen.get("networkpolicy", f"egress-{OUT}"), "a service's policy is there")
    yield
    chosen.kubectl("delete", "--ignore-not-found", "--wait=false", "--filename=-", stdin=text)


def allowed(place: Place, verb: str, user: str) -> bool:
    return place.kubectl("auth", "can-i", verb, "oj", f"--as={user}", check=False).strip() == "yes"


def rights(place: Place, user: str) -> list[str]:
    """Return what a user may do that not everybody of that sort may, in the two namespaces."""
    account = user.startswith("system:serviceaccount:")
    stranger = f"{user.rpartition(':')[0]}:nobody" if account else "nobody"
    return sorted(
        f"{namespace} {line}"
        for namespace in (NAMESPACE, JOBS_NAMESPACE)
        for line in listed(place, user, namespace) - listed(place, stranger, namespace)
    )


def listed(place: Place, user: str, namespace: str) -> set[str]:
    text = place.kubectl("auth", "can-i", "--list", f"--as={user}", f"--namespace={namespace}")
    lines = set()
    for resource, names, verbs in (m.groups() for m in map(ROW.match, text.splitlines()) if m):
        only = f" ({names})" if names else ""
        lines.add(f"{resource}{only}: {' '.join(sorted(verbs.split()))}")
    return lines


@pytest.mark.parametrize("identity", IDENTITIES)
def test_rights_are_what_the_file_says(
    place: Place, golden: Callable[[str, Any], None], identity: str
) -> None:
    golden(f"roles/{identity}.txt", rights(place, IDENTITIES[identity]))


@pytest.mark.parametrize(
    "rows",
    [MAKING, CHANGING, BEYOND, NAMESPACE_ADMINISTRATOR, IN_PODS],
    ids=["making", "changing", "beyond", "namespace administrator", "in pods"],
)
def test_what_people_try_is_refused_for_the_one_thing_that_is_wrong(
    place: Place, rows: list[Row]
) -> None:
    expected = {row.what: row.answer for row in rows}
    assert len(expected) == len(rows)
    assert {row.what: held(row.act.done(place), row.answer) for row in rows} == expected
    twins = [(row.what, row.twin, row.twins_answer) for row in rows if row.twin]
    found = {what: held(twin.done(place), answer) for what, twin, answer in twins}
    assert found == {what: answer for what, _, answer in twins}


# Makes each call of a list (verb, path) with the token of the pod that it runs in.
ASK = """
import json, ssl, sys, urllib.error, urllib.request
folder, found = "/var/run/secrets/kubernetes.io/serviceaccount", []
trust = ssl.create_default_context(cafile=f"{folder}/ca.crt")
for verb, path, headers in json.load(open(0)):
    head = {"Authorization": "Bearer " + open(f"{folder}/token").read(), "Content-Type": "application/json"}
    url, body = f"https://kubernetes.default.svc{path}", b"{}" if verb in ("POST", "PUT") else None
    call = urllib.request.Request(url, body, head | headers, method=verb)
    try:
        found.append(urllib.request.urlopen(call, context=trust).status)
    except urllib.error.HTTPError as error:
        found.append(error.code)
print(json.dumps(found))
"""
OURS, ITS = f"/api/v1/namespaces/{NAMESPACE}", f"/api/v1/namespaces/{JOBS_NAMESPACE}"
RIGHTS, ADMISSION = "/apis/rbac.authorization.k8s.io/v1", "/apis/admissionregistration.k8s.io/v1"
WALL = f"/apis/networking.k8s.io/v1/namespaces/{JOBS_NAMESPACE}/networkpolicies/{RELEASE}-jobs"
# What nobody who has taken the operator or the API may do.
TAKEN: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/api/v1/secrets", {}),
    ("GET", f"{OURS}/secrets", {}),
    ("GET", f"{ITS}/secrets", {}),
    ("GET", "/api/v1/pods", {}),
    ("GET", "/api/v1/namespaces", {}),
    ("GET", "/api/v1/nodes/x/proxy/runningpods/", {}),
    ("POST", f"{OURS}/pods?dryRun=All", {}),
    ("POST", f"{OURS}/serviceaccounts/default/token?dryRun=All", {}),
    ("POST", f"{ITS}/serviceaccounts/{SERVICE_ACCOUNT}/token?dryRun=All", {}),
    ("POST", f"{ITS}/pods/x/exec?command=id", {}),
    ("GET", f"{ITS}/pods/x/log", {}),
    ("POST", f"{RIGHTS}/clusterrolebindings?dryRun=All", {}),
    ("POST", f"{RIGHTS}/namespaces/{JOBS_NAMESPACE}/rolebindings?dryRun=All", {}),
    ("DELETE", f"{ADMISSION}/validatingadmissionpolicies/x?dryRun=All", {}),
    ("DELETE", f"{WALL}?dryRun=All", {}),
    ("PATCH", f"/api/v1/namespaces/{JOBS_NAMESPACE}?dryRun=All", {"Content-Type": "application/merge-patch+json"}),
    ("GET", f"{OURS}/pods", {"Impersonate-User": "system:admin"}),
]  # fmt: skip
ALLOWED = {"operator": f"{ITS}/pods", "api": JOBS}


@pytest.mark.parametrize("part", ALLOWED)
def test_with_the_token_of_its_pod_nobody_gets_further(place: Place, part: str) -> None:
    calls = [*TAKEN, ("GET", ALLOWED[part], {})]
    text = place.kubectl(
        "exec", "--stdin", f"--namespace={NAMESPACE}", f"deploy/{RELEASE}-{part}", "--",
        "python3", "-c", ASK, stdin=json.dumps(calls),
    )  # fmt: skip
    assert json.loads(text) == [403] * len(TAKEN) + [200]


# What the policies of admission-policy.yaml say, of all that is refused.
BY_POLICY = (
    NOT_YOURS, BY_THE_API, "names of the form", STATUS, PODS, POLICIES, TOKENS, ITS_PODS, VOLUMES, PLAIN,
    HINTS, WHOLE,
)  # fmt: skip


@contextmanager
def unbound(place: Place) -> Iterator[None]:
    """Bind none of the chart's policies to anything while the block runs."""
    kind, ours = "validatingadmissionpolicybindings", f"{RELEASE}-"
    found = json.loads(place.kubectl("get", kind, "--output=json"))
    items = [item for item in found["items"] if item["metadata"]["name"].startswith(ours)]
    assert len(items) > 6
    place.kubectl("delete", kind, *(item["metadata"]["name"] for item in items))
    try:
        yield
    finally:
        for item in items:
            kept = ("name", "labels", "annotations")
            item["metadata"] = {key: item["metadata"][key] for key in kept}
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        place.kubectl("create", "--filename=-", stdin=text)


def test_it_is_the_policies_that_refuse(place: Place) -> None:
    rows = [
        row
        for row in (*MAKING, *CHANGING, *BEYOND, *NAMESPACE_ADMINISTRATOR, *IN_PODS)
        if any(text in row.answer for text in BY_POLICY)
    ]
    assert len(rows) > 40
    first = MAKING[1]
    with unbound(place):
        until(lambda: FINE in first.act.done(place), "the policies are gone")
        answers = [held(row.act.done(place), row.twins_answer) for row in rows]
    assert [(r.what, a) for r, a in zip(rows, answers, strict=True) if a != r.twins_answer] == []
    until(lambda: first.answer in first.act.done(place), "the policies are back")


def test_jobs_are_for_whom_they_name_where_the_binding_is_switched_off(place: Place) -> None:
    others = job(userID="bob").by("alice")
    assert NOT_YOURS in others.done(place)
    with place.configured("jobs.bindUserToCaller=false"):
        until(lambda: FINE in others.done(place), "alice may make one for bob")
    until(lambda: NOT_YOURS in others.done(place), "she may no more")


def held(answer: str, expected: str) -> str:
    """Return what was expected where the answer holds it, and else the answer."""
    fits = expected in answer or (expected == FINE and PATCHED in answer)
    return expected if fits else answer


def test_a_finalizer_of_ones_own_keeps_no_job_from_its_end(place: Place) -> None:
    body = job("roles-stays", userID="penny", metadata={"finalizers": ["example.org/stay"]}).body
    place.kubectl("create", "--filename=-", "--as=penny", stdin=json.dumps(body))
    try:
        place.kubectl("delete", "oj", "roles-stays", "--wait=false", "--as=penny")
        place.kubectl("wait", "oj/roles-stays", "--for=condition=Finished", "--timeout=60s")
    finally:
        patch = '--patch={"metadata": {"finalizers": null}}'
        place.kubectl("patch", "oj", "roles-stays", "--type=merge", patch, "--as=penny")
    until(lambda: not place.get("oj", "roles-stays"), "the job is gone")


def test_the_garbage_collector_may_delete_anybodys_job(place: Place) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "roles-no-such", "uid": "no-such"}
    body = job("roles-orphan", metadata={"ownerReferences": [owner]}).body
    place.kubectl("create", "--filename=-", "--as=alice", stdin=json.dumps(body))
    place.made.append("orchestratorjob/roles-orphan")
    until(lambda: not place.get("oj", "roles-orphan"), "the job is collected")
