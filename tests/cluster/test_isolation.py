"""What a stranger's run.sh can reach and do: nothing that is not its own."""

import yaml

from local.images import IMAGES
from orchestrator_operator.core.podspec import Surroundings, build
from orchestrator_operator.settings import wrapper_text
from tests.cluster.place import Place, until
from tests.cluster.test_job import unzip
from tests.support.builders import a_pool, a_service, submitted


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
