"""Whom a job reaches, from its first moment on, and who reaches it: the gateway, and nobody."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.paths import JOBS_NAMESPACE, LINK_HOST, LINK_NODE, NAMESPACE, RELEASE
from orchestrator_api.gateway import router
from tests.attack.stranger import LISTENER, PORT, Stranger, in_pod, unguarded
from tests.cluster.place import Place, until
from tests.cluster.test_job import unzip
from tests.cluster.test_life import SMALL, service

DIAL = (Path(__file__).parent / "dial.py").read_text()
# A policy takes a moment to reach a new pod; run.sh must not start before it has.
MOMENTS = [0, 0.1, 1, 10]
Target = tuple[str, str, int]
# Where a cloud tells its nodes who they are, and where etcd is: the one of here hears loopback alone.
PRETENDED: list[Target] = [("tcp", "169.254.169.254", 80), ("tcp", LINK_NODE, 2379)]
ELSEWHERE: list[Target] = [*PRETENDED, ("tcp", LINK_HOST, 22), ("tcp", LINK_HOST, 5000)]
ACCEPT = """
import json, socket, sys, threading
for _, address, port in json.loads(sys.argv[1]):
    threading.Thread(target=lambda s: [s.accept() for _ in iter(int, 1)],
                     args=(socket.create_server((address, port)),)).start()
print("ready", flush=True)
"""
ROOMY = {**SMALL, "cpu": "500m", "memory": "256Mi"}
OF_THE_API = "--selector=app.kubernetes.io/component=api"
# Where the pod's way out leads to, as addresses of old and of the link alone, which need no route.
GATEWAY_OF_THE_POD = """
import json, socket, struct, subprocess
lines = [line.split() for line in open("/proc/net/route")][1:]
way = next(words for words in lines if words[1] == "00000000")
address = socket.inet_ntoa(struct.pack("<L", int(way[2], 16)))
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", (address, 9))
mac = next(line.split()[3] for line in open("/proc/net/arp") if line.split()[0] == address)
parts = [int(part, 16) for part in mac.split(":")]
parts = [parts[0] ^ 2, *parts[1:3], 0xff, 0xfe, *parts[3:]]
link = "fe80::" + ":".join("%x" % (a << 8 | b) for a, b in zip(parts[::2], parts[1::2]))
print(json.dumps([address, link + "%" + way[0]]))
"""
ASK = """
import http.client, json, sys
host, calls, found = sys.argv[1], json.loads(sys.argv[2]), []
for method, path, token in calls:
    connection = http.client.HTTPConnection(host, 8081, timeout=10)
    connection.request(method, path, "{}", {"Authorization": token} if token else {})
    answer = connection.getresponse()
    found.append([answer.status, answer.read().decode()])
print(json.dumps(found))
"""


def items(place: Place, kind: str, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(place.kubectl("get", kind, "-ojson", *words))["items"]
    return found


def services(place: Place) -> list[Target]:
    """Return every port of every Service of the cluster that has an address."""
    return [
        ("dns" if port["port"] == 53 and port["protocol"] == "UDP" else port["protocol"].lower(),
         item["spec"]["clusterIP"], port["port"])
        for item in items(place, "services", "--all-namespaces")
        for port in item["spec"]["ports"]
        if item["spec"]["clusterIP"] != "None"
    ]  # fmt: skip


def of_the_node(place: Place, stranger: Stranger) -> list[Target]:
    """Return what listens on a node: API server, kubelet, etcd, name service and the like."""
    addresses = [
        address["address"] for node in items(place, "nodes")
        for address in node.get("status", {}).get("addresses", []) if address["type"] == "InternalIP"
    ] + stranger.run(GATEWAY_OF_THE_POD)  # fmt: skip
    ports = (22, 53, 2379, 2380, 6443, 8181, 10249, 10250, 10256, 10257, 10259, 20244)
    return [("tcp", a, port) for a in addresses for port in ports] + [
        ("dns", a, 53) for a in addresses
    ]


def of_the_pods(place: Place) -> list[Target]:
    pods = items(place, "pods", f"--namespace={NAMESPACE}")
    ports = (5000, 8080, 8081, 8082, 8083, 9000, 9001)
    return [("tcp", pod["status"]["podIP"], port) for pod in pods for port in ports]


def gateways(place: Place) -> set[Target]:
    """Return the one port that is open, by its Service and by the pods behind it."""
    pods = items(place, "pods", f"--namespace={NAMESPACE}", OF_THE_API)
    hosts = {place.get("service", "orchestrator-gateway", NAMESPACE)["spec"]["clusterIP"]}
    return {("tcp", host, 8081) for host in hosts | {p["status"]["podIP"] for p in pods}}


@pytest.fixture(scope="module")
def listener(chosen: Place) -> Iterator[tuple[str, str]]:
    """Run a job that listens; gives its pod and address once it hears itself."""
    chosen = replace(chosen, made=[])
    number = chosen.upload("exec python3 listener.py", {"listener.py": LISTENER.encode()})
    pod = f"job-{number}-1"
    chosen.wait(number, "Running")
    until(lambda: chosen.get("pod", pod)["status"].get("podIP"), "it has an address")
    address = str(chosen.get("pod", pod)["status"]["podIP"])
    words = json.dumps([(p, address, PORT) for p in ("tcp", "udp")])
    until(lambda: _dialled(chosen, pod, words) == [["open", "open"]], "it hears itself")
    yield pod, address
    chosen.forget()


@pytest.fixture(scope="module")
def pretended(chosen: Place) -> Iterator[set[Target]]:
    """Have the local cluster's node listen where nodes elsewhere do."""
    if not chosen.local:
        yield set()
        return
    inside = ["nsenter", f"--net=/proc/{chosen.pid('kubelet')}/ns/net"]
    metadata = ["169.254.169.254/32", "dev", "lo"]
    subprocess.run([*inside, "ip", "address", "replace", *metadata], check=True)
    process = subprocess.Popen(
        [*inside, sys.executable, "-c", ACCEPT, json.dumps(PRETENDED)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield set(PRETENDED)
    finally:
        process.kill()
        process.communicate()
        subprocess.run([*inside, "ip", "address", "delete", *metadata], check=True)


def _dialled(place: Place, pod: str, words: str) -> Any:
    return json.loads(in_pod(place, pod, JOBS_NAMESPACE, DIAL, words, "[0]"))


def in_a_job(place: Place, name: str, program: str, *words: str) -> Any:
    """Run a program as a job of service *name*; returns what it prints, read as JSON."""
    files = {"program.py": program.encode(), "words": "\n".join(words).encode()}
    script = 'mapfile -t words < words; python3 program.py "${words[@]}" > printed'
    number = place.upload(script, files, service=name)
    assert place.wait(number) == "Completed", place.poll(number).text
    return json.loads(unzip(place.poll(number).content)["printed"])


def open_ones(targets: list[Target], outcomes: list[str]) -> set[Target]:
    return {target for target, outcome in zip(targets, outcomes, strict=True) if outcome == "open"}


def test_a_job_reaches_the_gateway_and_nobody_else_at_any_moment(
    place: Place, stranger: Stranger, listener: tuple[str, str], pretended: set[Target]
) -> None:
    others = [(p, a, PORT) for p in ("tcp", "udp") for a in (stranger.address, listener[1])]
    node, cluster = of_the_node(place, stranger), services(place) + of_the_pods(place)
    targets = sorted({*ELSEWHERE, *others, *node, *cluster})
    words = (json.dumps(targets), json.dumps(MOMENTS))
    name = service(place, "dialler", resources=ROOMY)
    for moment, outcomes in zip(MOMENTS, in_a_job(place, name, DIAL, *words), strict=True):
        assert open_ones(targets, outcomes) == gateways(place), f"after {moment} s"

    # The same from a pod without the policy: they do listen, so it is the policy that closed them.
    reached = open_ones(targets, stranger.run(DIAL, words[0], "[0]")[0])
    kubernetes = place.get("service", "kubernetes", "default")["spec"]["clusterIP"]
    dns = place.get("service", "kube-dns", "kube-system")["spec"]["clusterIP"]
    api = place.get("service", "orchestrator-api", NAMESPACE)["spec"]["clusterIP"]
    canaries = {(p, a, 8082) for p, a, _ in gateways(place)}
    kubelets = {target for target in node if target[2] == 10250 and ":" not in target[1]}
    assert reached >= {
        ("tcp", kubernetes, 443), ("tcp", api, 5000), ("dns", dns, 53), ("tcp", dns, 53),
        ("tcp", stranger.address, PORT), ("udp", stranger.address, PORT),
    } | kubelets | canaries | pretended | gateways(place)  # fmt: skip


def test_a_job_reaches_what_its_service_lists_and_no_more(
    place: Place, stranger: Stranger, listener: tuple[str, str]
) -> None:
    allowed = ("tcp", stranger.address, PORT)
    rule = {"cidr": f"{stranger.address}/32", "ports": [{"port": PORT}]}
    name = service(place, "outgoing", egress=[rule], resources=ROOMY)
    until(lambda: place.get("networkpolicy", f"egress-{name}"), "its policy is there")
    others = [("udp", stranger.address, PORT), ("tcp", listener[1], PORT), *of_the_pods(place)]
    targets = sorted({allowed, *others, *of_the_node(place, stranger), *services(place)})
    words = (json.dumps(targets), "[2]")
    [outcomes] = in_a_job(place, name, DIAL, *words)
    assert open_ones(targets, outcomes) == gateways(place) | {allowed}
    # Of another service, it does not.
    [outcomes] = in_a_job(place, service(place, "inward", resources=ROOMY), DIAL, *words)
    assert open_ones(targets, outcomes) == gateways(place)

    service(place, "outgoing", resources=ROOMY)
    until(lambda: not place.get("networkpolicy", f"egress-{name}"), "its policy is gone")


def test_nobody_reaches_a_job(stranger: Stranger, listener: tuple[str, str]) -> None:
    mine = [(p, stranger.address, PORT) for p in ("tcp", "udp")]
    its = [(p, listener[1], PORT) for p in ("tcp", "udp")]
    found = stranger.run(DIAL, json.dumps(mine + its), "[0]")[0]
    assert open_ones(mine + its, found) == set(mine)


def test_it_is_the_jobs_policy_that_does_all_that(
    place: Place, stranger: Stranger, listener: tuple[str, str]
) -> None:
    """The counter-proof: the same pods, let out and let in."""
    kubernetes = place.get("service", "kubernetes", "default")["spec"]["clusterIP"]
    dns = place.get("service", "kube-dns", "kube-system")["spec"]["clusterIP"]
    canaries = {(p, a, 8082) for p, a, _ in gateways(place)}
    targets = sorted({
        ("tcp", kubernetes, 443), ("dns", dns, 53), ("tcp", stranger.address, PORT),
        ("udp", stranger.address, PORT), ("tcp", listener[1], PORT), ("udp", listener[1], PORT),
        *canaries, *gateways(place),
        *(t for t in of_the_node(place, stranger) if t[2] in {6443, 10250} and ":" not in t[1]),
    })  # fmt: skip
    words = (json.dumps(targets), "[0]")
    its = json.dumps([("tcp", listener[1], PORT)])
    name = service(place, "let-out", resources=ROOMY, networkIsolation="BestEffort")
    with unguarded(place, f"{RELEASE}-jobs", JOBS_NAMESPACE):
        until(lambda: stranger.run(DIAL, its, "[0]") == [["open"]], "jobs are reached")
        [outcomes] = in_a_job(place, name, DIAL, *words)
        assert open_ones(targets, outcomes) == open_ones(targets, stranger.run(DIAL, *words)[0]), (
            outcomes
        )
        assert len(open_ones(targets, outcomes)) > 8
    until(lambda: stranger.run(DIAL, its, "[0]") != [["open"]], "jobs are shut off again")
    [outcomes] = in_a_job(place, name, DIAL, *words)
    assert open_ones(targets, outcomes) == gateways(place)


def test_the_gateway_answers_nobody_without_the_agents_token(place: Place) -> None:
    routes = [(m, r.path) for r in router.routes for m in r.methods]  # type: ignore[attr-defined]
    assert len(routes) > 9
    # Tokens of no cluster, of no key, and none.
    tokens = ("", "Bearer x", "Basic eDp4", "Bearer e30.e30.")
    calls = [(m, path, token) for m, path in (*routes, ("GET", "/docs")) for token in tokens]
    name = service(place, "asker", resources=ROOMY)
    host = place.get("service", "orchestrator-gateway", NAMESPACE)["spec"]["clusterIP"]
    answers = in_a_job(place, name, ASK, host, json.dumps(calls))
    told: dict[tuple[int, str], set[str]] = {}
    for (_, path, _), (status, body) in zip(calls, answers, strict=True):
        told.setdefault((status, body), set()).add(path)
    refused = {path for (status, _), paths in told.items() if status == 401 for path in paths}
    [pod] = items(place, "pods", f"--namespace={NAMESPACE}", OF_THE_API)
    address = pod["status"]["podIP"]
    # These tell a pod nothing but where the gateway is.
    free = {
        (200, f'{{"host":"{address}","port":8082,"listening":true}}'): {"/canary"}, (200, '{"status":"ok"}'): {"/livez"},
        (200, '{"ready":true}'): {"/readyz"}, (404, '{"detail":"Not Found"}'): {"/docs"},
    }  # fmt: skip
    assert {key: paths for key, paths in told.items() if key[0] != 401} == free
    assert refused == {path for _, path in routes} - {"/canary", "/livez", "/readyz"}
    assert all(body.startswith('{"message":') for status, body in told if status == 401), told
