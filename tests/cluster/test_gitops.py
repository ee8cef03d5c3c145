"""GitOps on the real thing: kustomize, server-side apply by several hands, and a wrong merge."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from local.paths import JOBS_NAMESPACE
from orchestrator_crds.meta import API_VERSION, GROUP
from tests.cluster.place import Place, examples, until

GITOPS = examples() / "gitops"
PRODUCTION = GITOPS / "overlays/production"
# Nobody uploads under this name, so that these quotas count for no other test.
NOBODY = {"onlyUsers": ["nobody-gitops"]}


def rendered(place: Place, folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    text = place.kubectl("kustomize", str(folder))
    bodies = list(yaml.safe_load_all(text))
    assert {body["metadata"]["namespace"] for body in bodies} == {JOBS_NAMESPACE}
    return {(body["kind"], body["metadata"]["name"]): body for body in bodies}


def apply(
    place: Place, name: str, manager: str, spec: dict[str, Any], *, check: bool = True
) -> str:
    """Apply a part of a quota on the server, in the name of *manager*; returns what kubectl says."""
    body = {
        "apiVersion": API_VERSION,
        "kind": "OrchestratorQuota",
        "metadata": {"name": name},
        "spec": spec,
    }
    place.made.append(f"orchestratorquota/{name}")
    return place.kubectl(
        "apply",
        "--server-side",
        f"--field-manager={manager}",
        "--filename=-",
        stdin=yaml.safe_dump(body),
        check=check,
    )


def users(place: Place, name: str) -> dict[str, Any]:
    found: dict[str, Any] = place.get("orchestratorquota", name)["spec"].get("users", {})
    return found


def judged(place: Place, name: str, status: str) -> dict[str, Any]:
    """Return the quota's status once the operator has judged the present spec to be *status*."""

    def found() -> dict[str, Any] | None:
        body = place.get("orchestratorquota", name)
        known: dict[str, Any] = body["status"]
        if known["observedGeneration"] != body["metadata"]["generation"]:
            return None
        ready = [c["status"] for c in known.get("conditions", ()) if c["type"] == "Ready"]
        return known if ready == [status] else None

    known: dict[str, Any] = until(found, f"quota {name} has Ready={status}")
    return known


def test_kustomize_changes_one_users_limit_and_keeps_the_others(place: Place) -> None:
    before, after = rendered(place, GITOPS / "base"), rendered(place, PRODUCTION)
    assert set(before) == set(after)
    key = ("OrchestratorQuota", "portal")
    old, new = before.pop(key)["spec"], after.pop(key)["spec"]
    assert before == after
    assert new["users"] == {**old["users"], "alice": {**old["users"]["alice"], "maxRunning": 12}}
    assert new["services"] == old["services"]
    assert list(new["windows"]) == ["night"]
    assert list(new["overrides"]) == ["course"]


def test_the_server_takes_the_overlay_without_a_warning(place: Place) -> None:
    names = place.kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        "--warnings-as-errors",
        "--field-manager=limits",
        f"--kustomize={PRODUCTION}",
        "--output=name",
    ).split()
    assert sorted(names) == [
        f"orchestratornodepool.{GROUP}/batch",
        f"orchestratorquota.{GROUP}/portal",
        f"orchestratorservice.{GROUP}/alignment",
        f"orchestratorservice.{GROUP}/folding",
    ]


def test_two_managers_each_keep_their_own_user_of_one_quota(place: Place) -> None:
    name = "gitops-shared"
    carol, dave = {"maxRunning": 2}, {"maxRunning": 3}
    apply(place, name, "flux", {**NOBODY, "users": {"carol": carol}})
    apply(place, name, "alice", {"users": {"dave": dave}})
    assert users(place, name) == {"carol": carol, "dave": dave}

    said = apply(place, name, "alice", {"users": {"dave": dave, "carol": {"maxRunning": 9}}}, check=False)  # fmt: skip
    assert 'conflict with "flux"' in said
    assert ".spec.users.carol.maxRunning" in said
    assert users(place, name) == {"carol": carol, "dave": dave}

    apply(place, name, "flux", NOBODY)
    assert users(place, name) == {"dave": dave}
    assert place.get("orchestratorquota", name)["spec"]["onlyUsers"] == NOBODY["onlyUsers"]


def test_a_wrong_merge_is_named_and_leaves_the_last_good_version_in_force(place: Place) -> None:
    name = "gitops-wrong"
    apply(place, name, "flux", {**NOBODY, "maxRunning": 3})
    assert judged(place, name, "True")["inForce"]["maxRunning"] == 3

    never = {"never": {"schedule": "0 0 30 2 *", "durationSeconds": 60, "maxRunning": 1}}
    apply(place, name, "alice", {"windows": never})
    status = judged(place, name, "False")
    (ready,) = [c for c in status["conditions"] if c["type"] == "Ready"]
    assert ready["reason"] == "InvalidSchedule"
    assert ready["message"].startswith("spec.windows.never.schedule: ")
    assert status["inForce"]["maxRunning"] == 3
    assert not status["inForce"].get("windows")

    apply(place, name, "alice", {})
    judged(place, name, "True")


def test_argo_cds_health_checks_merge_into_its_config_map(place: Place, tmp_path: Path) -> None:
    shutil.copy(GITOPS / "argocd/argocd-cm.yaml", tmp_path)
    theirs: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "namespace": "argocd"},
        "data": {"url": "https://argocd.example.org"},
    }
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(theirs))
    kustomization = {"resources": ["theirs.yaml"], "patches": [{"path": "argocd-cm.yaml"}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (body,) = yaml.safe_load_all(place.kubectl("kustomize", str(tmp_path)))
    patch = yaml.safe_load((GITOPS / "argocd/argocd-cm.yaml").read_text())
    assert len(patch["data"]) == 4
    assert body["data"] == {**theirs["data"], **patch["data"]}
