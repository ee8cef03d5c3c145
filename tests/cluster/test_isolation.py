"""What a stranger's run.sh can reach and do: nothing that is not its own."""

import yaml

from local.images import IMAGES
from local.paths import KUBERNETES_IP, LINK_HOST, LINK_NODE, NAMESPACE
from orchestrator_operator.core.podspec import Surroundings, build
from orchestrator_operator.settings import wrapper_text
from tests.cluster.place import Place, until
from tests.cluster.test_job import unzip
from tests.support.builders import a_pool, a_service, submitted

DIAL = """
try() { timeout 2 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null && echo "open $1 $2" >> open; }
%s
touch tried
"""


def addresses(place: Place) -> list[tuple[str, int]]:
    """Return what a job must not reach: the cluster's API, its node, our services, other pods."""
    services = [
        (place.get("service", f"orchestrator-{name}", NAMESPACE)["spec"]["clusterIP"], port)
        for name, port in (("minio", 9000), ("api", 5000), ("gateway", 8082))
    ]
    pods = yaml.safe_load(place.kubectl("get", "pods", f"--namespace={NAMESPACE}", "-oyaml"))
    others = [
        (pod["status"]["podIP"], port) for pod in pods["items"] for port in (5000, 8080, 9000)
    ]
    node = [(LINK_NODE, 6443), (LINK_NODE, 10250), (LINK_NODE, 53), (LINK_HOST, 22)]
    return [(KUBERNETES_IP, 443), ("169.254.169.254", 80), *node, *services, *others]


def test_run_sh_reaches_nobody(place: Place) -> None:
    lines = "\n".join(f"try {address} {port} &" for address, port in addresses(place))
    number = place.upload(DIAL % f"{lines}\nwait")
    assert place.wait(number) == "Completed"
    found = unzip(place.poll(number).content)
    assert "tried" in found
    assert "open" not in found, found["open"].decode()


def test_run_sh_has_no_rights_and_no_secrets(place: Place) -> None:
    script = """
id -u > uid
touch /etc/x 2>/dev/null && echo root-is-writable >> bad
touch /job/x 2>/dev/null && echo job-is-writable >> bad
mkfifo /job/y 2>/dev/null && echo job-takes-fifos >> bad
rm -f /job/gate /job/log 2>/dev/null && echo job-can-be-removed >> bad
[ -e /var/run/secrets/kubernetes.io ] && echo has-a-token >> bad
[ -e /token ] && echo has-the-agents-token >> bad
env | grep -iE 'gateway|token|secret|access' >> bad
grep CapEff /proc/self/status | grep -v 0000000000000000 >> bad
grep NoNewPrivs /proc/self/status | grep -v 1$ >> bad
grep Seccomp: /proc/self/status | grep -v 2$ >> bad
ls /proc | grep -cE '^[0-9]+$' > processes
getent hosts kubernetes.default.svc.cluster.local >> bad
true
"""
    number = place.upload(script)
    assert place.wait(number) == "Completed"
    found = unzip(place.poll(number).content)
    assert found["uid"] == b"65532\n"
    assert found.get("bad", b"") == b""
    # Its own few: the agent's are in a namespace of their own.
    assert int(found["processes"]) < 10


def test_main_started_before_the_agent_never_runs_ungated(place: Place) -> None:
    image = place.get("orchestratorservice", "example")["spec"]["image"]
    around = Surroundings(
        "localhost/no-such-agent:1", "Never", "http://127.0.0.1:1", wrapper_text()
    )
    service = a_service(
        image=image, entrypoint=["touch", "/work/ungated"], graceSeconds=1, uploadSeconds=1
    )
    pool = a_pool(nodeSelector={"orchestrator.dev/pool": "cpu"})
    pod = build(submitted("ungated"), service, pool, around)
    pod["metadata"] = {"name": "ungated-1"}  # not ours, so that the operator leaves it alone
    place.kubectl("create", "--filename=-", stdin=yaml.safe_dump(pod))
    place.made.append("pod/ungated-1")
    assert IMAGES["agent"].reference != around.agent_image

    def main_runs() -> bool:
        statuses = place.get("pod", "ungated-1")["status"].get("containerStatuses", [])
        return any(s["name"] == "main" and "running" in s["state"] for s in statuses)

    until(main_runs, "main runs and the agent does not")
    listing = place.kubectl(
        "exec", "ungated-1", "--container=main", "--", "bash", "-c", "sleep 3; ls /work /job"
    )
    assert "ungated" not in listing
    made = place.kubectl(
        "exec", "ungated-1", "--container=main", "--", "mkfifo", "/job/gate", check=False
    )
    assert "Read-only file system" in made


def test_a_pod_with_privileges_is_refused_in_the_jobs_namespace(place: Place) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root"},
        "spec": {
            "containers": [{"name": "c", "image": "x", "securityContext": {"privileged": True}}]
        },
    }
    answer = place.kubectl("create", "--filename=-", stdin=yaml.safe_dump(pod), check=False)
    assert 'violates PodSecurity "restricted' in answer
