"""The GitOps example: manifests that keep to the schemas, and Argo CD's health checks in Lua."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from lupa import lua51  # type: ignore[import-untyped]  # it has no stubs

from local.paths import EXAMPLES, JOBS_NAMESPACE, ROOT
from orchestrator_crds import GROUP, KINDS, OrchestratorJob, OrchestratorQuota, transitions, windows
from orchestrator_crds.lifecycle import Phase, Reason
from orchestrator_crds.meta import API_VERSION, seconds_of
from orchestrator_crds.outcome import Outcome, killed
from orchestrator_crds.resources import ComputeResources
from orchestrator_operator.core import judgement
from tests.support.builders import a_service, job_body, pool_body, quota_body, service_body
from tests.support.merge import merged

GITOPS = EXAMPLES / "gitops"
ARGO = GITOPS / "argocd"
PRODUCTION = GITOPS / "overlays/production"
NAMES = sorted(kind.__name__ for kind in KINDS)
JUDGED = {
    "OrchestratorNodePool": pool_body,
    "OrchestratorQuota": quota_body,
    "OrchestratorService": service_body,
}
NOW = "2026-01-01T00:01:00Z"
NEW_YEAR_2027 = 1.7987e9
STATES = {"Healthy", "Progressing", "Degraded"}

SUCCESS = Outcome(Phase.COMPLETED, Reason.SUCCEEDED, "run.sh ended with exit code 0.", 0)
FAILURE = Outcome(Phase.FAILED, Reason.NON_ZERO_EXIT, "run.sh ended with exit code 3.", 3)
INVALID = Outcome(Phase.INVALID, Reason.UNKNOWN_SERVICE, "There is no service exmaple.")


def loaded(path: Path) -> list[dict[str, Any]]:
    return [body for body in yaml.safe_load_all(path.read_text()) if body]


def base() -> list[dict[str, Any]]:
    listed = loaded(GITOPS / "base/kustomization.yaml")[0]
    assert listed["namespace"] == JOBS_NAMESPACE
    return [body for name in listed["resources"] for body in loaded(GITOPS / "base" / name)]


def production() -> list[dict[str, Any]]:
    """Return the overlay as kustomize renders it; tests/cluster compares with the real one."""
    found = {(body["kind"], body["metadata"]["name"]): body for body in base()}
    listed = loaded(PRODUCTION / "kustomization.yaml")[0]
    assert listed["resources"] == ["../../base"]
    for entry in listed["patches"]:
        for patch in loaded(PRODUCTION / entry["path"]):
            key = (patch["kind"], patch["metadata"]["name"])
            found[key] = merged(found[key], patch)
    return list(found.values())


def only(kind: str, bodies: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [body for body in bodies if body["kind"] == kind]
    return found


def strict(schema: Any) -> Any:
    """Return *schema* with fields that it does not name forbidden, as server-side apply has it."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: strict(value) for key, value in schema.items()}
    if isinstance(out.get("properties"), dict) and out.get("type") == "object":
        out.setdefault("additionalProperties", False)
    return out


def check(body: dict[str, Any]) -> None:
    kind = {kind.__name__: kind for kind in KINDS}[body["kind"]]
    definition = yaml.safe_load((ROOT / f"crds/{kind.plural}.yaml").read_text())["spec"]
    (version,) = definition["versions"]
    assert body["apiVersion"] == f"{definition['group']}/{version['name']}" == API_VERSION
    schema = strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    jsonschema.validate(body["spec"], schema, cls=jsonschema.Draft202012Validator)
    kind.parse(body)


@pytest.mark.parametrize("bodies", [base, production])
def test_manifests_keep_to_the_schemas_and_name_no_namespace(bodies: Any) -> None:
    found = bodies()
    assert {body["kind"] for body in found} == set(NAMES) - {"OrchestratorJob"}
    for body in found:
        assert set(body) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(body["metadata"]) == {"name"}
        check(body)


def test_a_misspelt_field_does_not_pass_for_a_good_one() -> None:
    body = copy.deepcopy(only("OrchestratorQuota", base()))
    body["spec"]["users"]["alice"]["maxRuning"] = 1
    with pytest.raises(jsonschema.ValidationError, match="maxRuning"):
        check(body)


@pytest.mark.parametrize("bodies", [base, production])
def test_the_operator_would_call_all_of_it_ready(bodies: Any) -> None:
    found = bodies()
    services = {b["metadata"]["name"] for b in found if b["kind"] == "OrchestratorService"}
    pools = {b["metadata"]["name"] for b in found if b["kind"] == "OrchestratorNodePool"}
    for body in found:
        if body["kind"] == "OrchestratorService":
            assert set(body["spec"]["nodePools"]) <= pools
    quota = OrchestratorQuota.parse(only("OrchestratorQuota", found))
    verdict = judgement.of_quota(quota, services, NEW_YEAR_2027)
    assert verdict.ready, verdict


def test_production_changes_one_users_limit_and_no_other_users() -> None:
    before = only("OrchestratorQuota", base())["spec"]
    after = only("OrchestratorQuota", production())["spec"]
    raised = {**before["users"]["alice"], "maxRunning": 12}
    assert after["users"] == {**before["users"], "alice": raised}
    assert before["users"]["alice"]["maxRunning"] != 12
    assert set(after) - set(before) == {"windows", "overrides"}
    assert {key: after[key] for key in before if key != "users"} == {
        key: value for key, value in before.items() if key != "users"
    }


@pytest.mark.parametrize(
    ("moment", "names", "everybody", "bob"),
    [
        ("2027-02-01T12:00:00Z", ("course",), 20, 10),
        ("2027-02-01T22:00:00Z", ("night", "course"), 40, 10),
        # 06:30 in Amsterdam, the last half hour of the window.
        ("2027-02-10T05:30:00Z", ("night",), 40, 2),
        ("2027-02-10T06:30:00Z", (), 20, 2),
    ],
)
def test_the_window_and_the_override_are_open_when_the_comments_say_so(
    moment: str, names: tuple[str, ...], everybody: int, bob: int
) -> None:
    quota = OrchestratorQuota.parse(only("OrchestratorQuota", production()))
    at = windows.in_force(quota.spec, seconds_of(moment))
    assert at.open == names
    assert (at.limits.max_running, at.limits.users["bob"].max_running) == (everybody, bob)


def test_flux_waits_for_every_object_of_the_overlay() -> None:
    (flux,) = loaded(GITOPS / "flux.yaml")
    assert (GITOPS / flux["spec"]["path"]).resolve() == PRODUCTION
    expected = {
        (API_VERSION, body["kind"], body["metadata"]["name"], JOBS_NAMESPACE)
        for body in production()
    }
    watched = [
        (c["apiVersion"], c["kind"], c["name"], c["namespace"])
        for c in flux["spec"]["healthChecks"]
    ]
    assert sorted(watched) == sorted(expected)


def test_argo_cd_applies_the_same_overlay_on_the_server() -> None:
    (application,) = loaded(ARGO / "application.yaml")
    spec = application["spec"]
    assert (GITOPS / spec["source"]["path"]).resolve() == PRODUCTION
    assert spec["destination"]["namespace"] == JOBS_NAMESPACE
    assert "ServerSideApply=true" in spec["syncPolicy"]["syncOptions"]


def test_the_readme_names_files_that_exist() -> None:
    text = (GITOPS / "README.md").read_text()
    named = set(re.findall(r"[a-z/-]+(?:\.yaml|/)(?=[`\s])", text)) - {"/"}
    assert {"flux.yaml", "argocd/argocd-cm.yaml", "argocd/application.yaml"} <= named
    for name in named:
        assert (GITOPS / name).exists(), name


# Argo CD's health checks.


def script(kind: str) -> str:
    return (ARGO / GROUP / kind / "health.lua").read_text()


def health(body: dict[str, Any], kind: str = "") -> tuple[str, str]:
    """Run the kind's script as Argo CD does: in Lua 5.1 with little more than the base library."""
    lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute(
        'getmetatable("").__index = nil '
        "for _, name in ipairs({'coroutine', 'debug', 'dofile', 'io', 'load', 'loadfile', 'math',"
        " 'module', 'os', 'package', 'python', 'require', 'string'}) do _G[name] = nil end"
    )
    lua.globals().obj = lua.table_from(json.loads(json.dumps(body)), recursive=True)
    answer = dict(lua.execute(script(kind or body["kind"])))
    assert set(answer) == {"status", "message"}
    assert answer["status"] in STATES
    assert isinstance(answer["message"], str)
    return answer["status"], answer["message"]


def test_the_config_maps_texts_are_those_of_the_files() -> None:
    (config,) = loaded(ARGO / "argocd-cm.yaml")
    assert (config["kind"], config["metadata"]["name"]) == ("ConfigMap", "argocd-cm")
    assert config["data"] == {
        f"resource.customizations.health.{GROUP}_{kind}": script(kind) for kind in NAMES
    }, "copy each health.lua into argocd-cm.yaml"


def test_there_is_a_check_for_every_kind_and_no_other() -> None:
    assert sorted(path.name for path in (ARGO / GROUP).iterdir()) == NAMES


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize(
    "part",
    [
        {},
        {"metadata": {}},
        {"metadata": {"generation": 1}, "status": {}},
        {"metadata": {"generation": 1}, "status": {"observedGeneration": -1}},
        {"metadata": {"generation": 1}, "status": {"observedGeneration": 1}},
        {"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "conditions": []}},
        {"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "conditions": [{}]}},
        {
            "metadata": {"generation": 1},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        },
        {"status": {"conditions": [{"type": "Stalled", "status": "True"}]}},
        {"status": None},
    ],
    ids=lambda part: json.dumps(part),
)
def test_what_nobody_has_looked_at_is_progressing(kind: str, part: dict[str, Any]) -> None:
    state, message = health(part, kind)
    assert state == "Progressing"
    assert message


def judged(kind: str, status: str, *, generation: int = 1, **condition: Any) -> dict[str, Any]:
    body: dict[str, Any] = JUDGED[kind]()
    body["metadata"]["generation"] = generation
    ready = {
        "type": "Ready",
        "status": status,
        "reason": "Any",
        "message": "",
        "lastTransitionTime": NOW,
        **condition,
    }
    others = [{"type": "Other", "status": "False", "reason": "Any", "message": "not this one"}]
    return {
        **body,
        "kind": kind,
        "status": {"observedGeneration": 1, "conditions": [*others, ready]},
    }


@pytest.mark.parametrize("kind", sorted(JUDGED))
def test_what_an_administrator_wrote_is_as_its_ready_condition_says(kind: str) -> None:
    assert health({**JUDGED[kind](), "kind": kind})[0] == "Progressing"
    assert health(judged(kind, "True")) == ("Healthy", "")
    note = "spec.nodePools: not used, since unknown: gpu."
    assert health(judged(kind, "True", message=note)) == ("Healthy", note)
    wrong = "spec.services: there is no service exmaple."
    assert health(judged(kind, "False", message=wrong)) == ("Degraded", wrong)
    assert health(judged(kind, "False", reason="InvalidSpec")) == ("Degraded", "InvalidSpec")
    assert health(judged(kind, "Unknown"))[0] == "Progressing"


@pytest.mark.parametrize("kind", sorted(JUDGED))
@pytest.mark.parametrize("status", ["True", "False"])
def test_a_verdict_on_an_earlier_version_does_not_count(kind: str, status: str) -> None:
    state, message = health(judged(kind, status, generation=2, message="of the old one"))
    assert state == "Progressing"
    assert message != "of the old one"


@pytest.mark.parametrize("kind", sorted(JUDGED))
def test_a_condition_without_message_and_reason_is_no_error(kind: str) -> None:
    status = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "False"}]}
    assert health({"metadata": {"generation": 1}, "status": status}, kind) == (
        "Degraded",
        "It is not ready.",
    )


def after(*moves: Any, **more: Any) -> dict[str, Any]:
    """Return a job after *moves*: each takes the job as it is, and returns a status patch."""
    body = job_body(**more)
    for move in moves:
        patch = move(OrchestratorJob.parse(body))
        body = {**body, "status": merged(body["status"], patch)}
    return body


def claim(job: OrchestratorJob) -> dict[str, Any]:
    size = ComputeResources()
    return transitions.claim(job, epoch=1, pool="cpu", resources=size, now=NOW)


def start(job: OrchestratorJob) -> dict[str, Any]:
    return transitions.start(job, pod="job-1-1", uid="u", node="node-1", now=NOW)


def end(outcome: Outcome) -> Any:
    return lambda job: transitions.settle(job, outcome, None, now=NOW)


def lose(job: OrchestratorJob) -> dict[str, Any]:
    return transitions.lost(job, now=NOW)


def wait(job: OrchestratorJob) -> dict[str, Any]:
    return transitions.waiting(job, Reason.USER_LIMIT, "Quota portal lets alice run 8 jobs.")


STOP = end(killed(running=True))
GONE = "The job's files are not in the file store any more. Submit the job again."
STORIES: dict[str, tuple[list[Any], Phase, tuple[str, str]]] = {
    "new": ([], Phase.QUEUED, ("Progressing", "Queued")),
    "waits": (
        [wait],
        Phase.QUEUED,
        ("Progressing", "Queued (UserLimit): Quota portal lets alice run 8 jobs."),
    ),
    "claimed": ([wait, claim], Phase.SUBMITTED, ("Progressing", "Submitted")),
    "runs": ([claim, start], Phase.RUNNING, ("Progressing", "Running")),
    "completed": ([claim, start, end(SUCCESS)], Phase.COMPLETED, ("Healthy", SUCCESS.message)),
    "failed": ([claim, start, end(FAILURE)], Phase.FAILED, ("Degraded", FAILURE.message)),
    "invalid": ([end(INVALID)], Phase.INVALID, ("Degraded", INVALID.message)),
    "stopped": (
        [claim, start, STOP],
        Phase.KILLED,
        ("Healthy", "The job was stopped on request while it ran."),
    ),
    "lost": ([claim, start, end(SUCCESS), lose], Phase.CLEANED, ("Degraded", GONE)),
}


@pytest.mark.parametrize("name", STORIES)
def test_a_job_is_as_its_phase_says(name: str) -> None:
    moves, phase, expected = STORIES[name]
    body = after(*moves)
    assert body["status"]["phase"] == phase
    assert health(body) == expected


def test_every_phase_is_tried() -> None:
    assert {phase for _, phase, _ in STORIES.values()} == set(Phase)


def test_a_job_that_runs_tells_how_far_it_is() -> None:
    progress = {"text": "3/10 refining", "updatedAt": NOW}
    body = after(claim, start, lambda _: {"progress": progress})
    assert health(body) == ("Progressing", "Running: 3/10 refining")


def test_a_job_that_is_to_be_run_again_is_progressing() -> None:
    away = Outcome(Phase.FAILED, Reason.NODE_LOST, "Not the job's fault: its node was lost.")
    service = a_service().spec
    body = after(claim, start, lambda job: transitions.settle(job, away, service, now=NOW))
    state, message = health(body)
    assert state == "Progressing"
    assert message.startswith("Queued (NodeLost): Not the job's fault: its node was lost.")


def test_a_job_whose_files_were_cleaned_away_in_time_is_healthy() -> None:
    body = after(claim, start, end(SUCCESS), lambda _: {"phase": "Cleaned", "message": ""})
    assert health(body) == ("Healthy", "The job's files are gone.")


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("Completed", ("Healthy", "")),
        ("Killed", ("Healthy", "The job was stopped.")),
        ("Failed", ("Degraded", "The job is Failed.")),
        ("Invalid", ("Degraded", "The job is Invalid.")),
        ("Cleaned", ("Healthy", "The job's files are gone.")),
        ("Running", ("Progressing", "Running")),
    ],
)
def test_a_phase_alone_is_enough(phase: str, expected: tuple[str, str]) -> None:
    assert health({"status": {"phase": phase}}, "OrchestratorJob") == expected
