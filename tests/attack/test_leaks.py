"""What must stay secret is found nowhere: not in objects, logs, events, the audit log or answers."""

import base64
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from local.paths import AUDIT_LOG, JOBS_NAMESPACE, NAMESPACE
from tests.cluster.keys import asked, bearer, key
from tests.cluster.place import Place, standing_still, until

# What no text may hold whosoever it is of: a signed address, or a token.
SHAPES = {
    "a signed address": re.compile(r"X-Amz-(?:Signature|Credential)=[\w%]"),
    "a token": re.compile(r"ey" + r"JhbGci[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"),
}
SHORTEST = 8
# Helm keeps the whole release in one; kubelets put these beside every pod.
NOT_SECRET = {"helm.sh/release.v1"}


def credentials(place: Place) -> dict[str, str]:
    """Return what the Secrets of the system hold: where -> the text."""
    items = json.loads(place.kubectl("get", "secrets", f"--namespace={NAMESPACE}", "-ojson"))[
        "items"
    ]
    return {
        f"{item['metadata']['name']}/{key}": text
        for item in items
        if item["type"] not in NOT_SECRET
        for key, value in item.get("data", {}).items()
        if len(text := base64.b64decode(value).decode(errors="replace").strip()) >= SHORTEST
    }


def objects(place: Place) -> dict[str, str]:
    """Return everything that the cluster holds, Secrets apart, as YAML by kind."""
    kinds = place.kubectl("api-resources", "--verbs=list", "--output=name").split()
    return {
        f"objects: {kind}": place.kubectl("get", kind, "--all-namespaces", "-oyaml", check=False)
        for kind in kinds
        if kind != "secrets" and not kind.endswith(".metrics.k8s.io")
    }


def logs(place: Place) -> dict[str, str]:
    """Return the logs of every container of the system and of jobs that are still there."""
    found = {}
    for namespace in (NAMESPACE, JOBS_NAMESPACE):
        where = f"--namespace={namespace}"
        for pod in place.kubectl("get", "pods", where, "-oname").split():
            found[f"log: {pod}"] = place.kubectl(
                "logs", where, pod, "--all-containers", "--tail=-1", check=False
            )
    return found


def answers(place: Place, number: int, headers: dict[str, str]) -> dict[str, str]:
    """Return what the API answers to right and wrong requests, heads and bodies."""
    described = httpx2.get(f"{place.front}/api-docs/openapi.json", timeout=60).json()["paths"]
    paths = [path.replace("{job_id}", n) for path in described for n in (str(number), "0", "x")]
    found = {}
    for path in {*paths, "/swagger/", "/api-docs/openapi.json", "/nowhere", "/metrics"}:
        for method in ("GET", "POST", "PUT"):
            if path.startswith("/terminate") and method == "POST":
                continue
            # A key in the address, too, where some put it.
            params = {"access_token": headers["Authorization"].removeprefix("Bearer ")}
            told = httpx2.request(
                method, place.front + path, headers=headers, params=params, timeout=60
            )
            found[f"answer: {method} {path}"] = f"{told.headers}\n{told.text}"
    return found


def seen(place: Place, number: int, headers: dict[str, str]) -> dict[str, str]:
    """Return every text that others than the system itself may come to see."""
    found = answers(place, number, headers) | objects(place) | logs(place)
    found["metrics"] = place.kubectl("get", "--raw", "/metrics")
    if place.local:
        found |= {
            f"log: {path.name}": path.read_text(errors="replace")
            for path in sorted(Path(AUDIT_LOG).parent.glob("*.log"))
        }
    return found


@pytest.fixture
def known(place: Place) -> Iterator[str]:
    """Have callers asked for keys, and name one who may do everything."""
    name = secrets.token_hex(32)
    with asked(place, "leak-keys", {name: {"role": "administrator"}}):
        yield name


def test_no_credential_is_found_anywhere(place: Place, known: str) -> None:
    token, wrong = secrets.token_urlsafe(40), key(secrets.token_hex(32))
    headers = {**bearer(known), "Cookie": f"session={token}"}
    canary = f"canary-{secrets.token_hex(8)}"
    script = f"echo {canary}; until [ -e go ]; do sleep 0.2; done; exit 3"
    # What is planted: a job that prints it, and an object that has it in its name.
    number = place.upload(script, headers=headers)
    place.apply("OrchestratorQuota", canary, {"onlyUsers": ["nobody"], "maxRunning": 1})
    until(lambda: canary in place.kubectl("logs", f"job-{number}-1", check=False), "it runs")
    running = logs(place) | {f"{name}, as it ran": text for name, text in objects(place).items()}
    assert f"name: job-{number}-1" in running["objects: pods, as it ran"]
    place.touch(f"job-{number}-1")
    path = f"{place.front}/download/{number}"
    until(lambda: canary in httpx2.get(path, headers=headers).text, "its end is told")
    texts = running | seen(place, number, headers)
    # And what is said to a key that is none, and to one in the wrong place.
    for name, bad in {"none": f"Bearer {wrong}", "misplaced": f"Basic {key(known)}"}.items():
        told = httpx2.get(path, headers={"Authorization": bad})
        assert told.status_code == 401
        texts[f"answer: {name}"] = f"{told.headers}\n{told.text}"

    hits = {where for where, text in texts.items() if canary in text}
    kinds = {where.partition(": ")[0] for where in hits}
    assert kinds == {"objects", "answer", "log"}, "the counter-proof: what is planted is found"
    assert f"log: pod/job-{number}-1" in hits
    assert not place.local or f"log: {Path(AUDIT_LOG).name}" in hits

    false = {"a false key": wrong, "the cookie": token}
    assert not leaked(texts, credentials(place) | {"the API key": key(known)} | false)


def test_nor_while_what_the_system_needs_is_away(place: Place, known: str) -> None:
    headers, texts = bearer(known), dict[str, str]()
    script = "until [ -e go ]; do sleep 0.2; done; echo x > out"
    ended = place.upload("true", headers=headers)
    running = place.upload(script, headers=headers)

    asked = [
        ("POST", "/upload"), ("GET", f"/download/{ended}"), ("GET", f"/download/{running}"),
        ("GET", f"/download_partial/{running}"), ("POST", f"/terminate/{ended}"), ("GET", "/health"),
        ("GET", f"/v1/jobs/{running}/explain"),
    ]  # fmt: skip

    def ask(when: str) -> set[int]:
        """Ask for what cannot be had, and keep what is answered."""
        found = set()
        for method, path in asked:
            form = {"user_id": "1", "service": "example"} if method == "POST" else None
            files = [("file", ("run.sh", b"true"))] if path == "/upload" else None
            told = httpx2.request(
                method, place.front + path, headers=headers, data=form, files=files, timeout=60
            )
            texts[f"answer: {method} {path} {when}"] = f"{told.headers}\n{told.text}"
            found.add(told.status_code)
        return found

    def phase(number: int) -> str:
        words = ("get", "orchestratorjob", f"job-{number}", "-ojsonpath={.status.phase}")
        return place.kubectl(*words, check=False)

    until(lambda: phase(ended) == "Completed" and phase(running) == "Running", "one runs")
    with place.stopped("minio"):
        place.touch(f"job-{running}-1")
        assert 503 in ask("without the store")
        pod = ("logs", f"job-{running}-1", "--all-containers")
        until(lambda: "/results" in place.kubectl(*pod, check=False), "its agent has tried in vain")
        texts |= logs(place)
    with standing_still(place.pid("local.node")):
        place.kill("kube-apiserver")
        until(lambda: 503 in ask("without Kubernetes"), "Kubernetes is missed")
    until(lambda: phase(running) == "Completed", "all is well again")
    texts |= seen(place, running, headers)
    assert not leaked(texts, credentials(place) | {"the API key": key(known)})


@pytest.mark.parametrize("how", ["plain", "coded", "a signed address", "a token", "not at all"])
def test_what_would_leak_is_found(how: str) -> None:
    """The counter-proof of the search."""
    secret = {name: f"very-{name}-secret" for name in ("one", "two", "three")}
    said = {
        "plain": secret["two"],
        "coded": base64.b64encode(secret["two"].encode()).decode(),
        "a signed address": "http://store/bucket/key?X-Amz-Signature=0123",
        "a token": ".".join(["ey" + "JhbGciOiJSUzI1NiJ9", "eyJzdWIiOiIxIn0", "c2lnbmF0dXJl"]),
        "not at all": "very-two-secrecy",
    }[how]
    expected = {"plain": {"two"}, "coded": {"two"}, "not at all": set[str]()}.get(how, {how})
    assert leaked({"a log": f"x {said} y"}, secret) == {("a log", name) for name in expected}


def leaked(texts: dict[str, str], secret: dict[str, str]) -> set[tuple[str, str]]:
    """Return where something secret is found, and what."""
    assert len(secret) > 2
    found = {
        (where, name)
        for where, text in texts.items()
        for name, value in secret.items()
        if value in text or base64.b64encode(value.encode()).decode() in text
    }
    return found | {
        (where, n) for where, text in texts.items() for n, s in SHAPES.items() if s.search(text)
    }
