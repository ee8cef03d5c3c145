"""The cluster that the tests run on, and what they do with it.

One suite for three places: a cluster that exists already (only when told so), kind, or the
project's own local one, which `hack/test` has brought up.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml

from local.paths import (
    AUDIT_LOG,
    CHART,
    FRONT,
    JOBS_NAMESPACE,
    KUBECONFIG,
    NAMESPACE,
    RELEASE,
    ROOT,
)
from local.toolchain import BIN
from orchestrator_crds.meta import API_VERSION
from orchestrator_wire.kube import resources_path

PATIENCE_SECONDS = 60.0
TERMINAL = {"Completed", "Failed", "Invalid", "Killed"}


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Return what *condition* gives once that is true; fails after *seconds*."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still waiting until {what}"
        time.sleep(0.1)
    return found


def commands() -> Iterator[tuple[int, list[str]]]:
    """Yield every process of this machine with the words of its command line."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
            yield int(entry.name), words.split("\0")


def cpu_seconds(pid: int) -> float:
    """Return how much of the processor a process of this machine has used since it began."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def standing_still(*pids: int) -> Iterator[None]:
    """Have processes of this machine stand still while the block runs."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@dataclass
class Place:
    """A cluster with the system on it."""

    front: str = FRONT
    kubeconfig: Path = KUBECONFIG
    local: bool = True
    made: list[str] = field(default_factory=list)

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as administrator in the jobs' namespace; returns its output."""
        done = subprocess.run(
            [str(BIN / "kubectl"), f"--kubeconfig={self.kubeconfig}", f"--namespace={JOBS_NAMESPACE}", *words],
            input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout if done.returncode == 0 else done.stderr

    def get(self, kind: str, name: str, namespace: str = JOBS_NAMESPACE) -> dict[str, Any]:
        """Return an object, or an empty one when there is none."""
        text = self.kubectl(
            "get", kind, name, f"--namespace={namespace}", "--ignore-not-found", "-ojson"
        )
        found: dict[str, Any] = json.loads(text or "{}")
        return found

    def apply(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """Create or change one of our resources; `forget` removes it at the test's end."""
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(body))
        self.made.append(f"{kind.lower()}/{name}")

    def forget(self) -> None:
        """Remove what the test made, and wait until no job's pod is left."""
        if self.made:
            self.kubectl("delete", "--ignore-not-found", "--wait=false", *self.made)
            self.made.clear()

    def clear(self, selector: str) -> None:
        """Remove the jobs that a field selector names, in one request.

        `kubectl delete` makes two for each of them, and takes its time in between.
        """
        path = resources_path(JOBS_NAMESPACE, "orchestratorjobs")
        self.kubectl("delete", "--raw", f"{path}?fieldSelector={selector}")

    def upload(
        self,
        script: str,
        files: dict[str, bytes] | None = None,
        *,
        user: int = 1,
        service: str = "example",
        headers: dict[str, str] | None = None,
    ) -> int:
        """Upload a run.sh, and other files by name; returns the job's number."""
        parts = [("file", ("run.sh", script.encode()))]
        parts += [("file", (name, data)) for name, data in (files or {}).items()]
        form = {"user_id": str(user), "service": service}
        answer = httpx2.post(
            f"{self.front}/upload", headers=headers, data=form, files=parts, timeout=60
        )
        assert answer.status_code == 201, answer.text
        number = int(answer.json()["id"])
        self.made.append(f"orchestratorjob/job-{number}")
        return number

    def poll(self, number: int) -> httpx2.Response:
        """Poll a job, as a portal does."""
        return httpx2.get(f"{self.front}/download/{number}", timeout=60)

    def status(self, number: int) -> str:
        """Return what a poll tells: the zip means Completed."""
        answer = self.poll(number)
        if answer.headers["content-type"] == "application/zip":
            return "Completed"
        return str(answer.json()["status"])

    def wait(self, number: int, *statuses: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Return the first status seen that is one of *statuses*, or by default the end."""
        wanted = set(statuses) or TERMINAL
        seen = ["", ""]

        def reached() -> bool:
            seen[0] = self.status(number)
            return seen[0] in wanted

        until(reached, f"job {number} is {' or '.join(sorted(wanted))}", seconds)
        return seen[0]

    def job(self, number: int) -> dict[str, Any]:
        """Return a job's resource."""
        return self.get("orchestratorjob", f"job-{number}")

    def touch(self, pod: str, name: str = "go") -> None:
        """Make a file in the working directory of a job, whose script waits for that."""
        self.kubectl("exec", pod, "--container=main", "--", "touch", name)

    def kill(self, part: str) -> None:
        """Kill a process of the system, or of the local cluster, without warning."""
        if not self.local:
            self.kubectl(
                "delete", "pod", f"--namespace={NAMESPACE}", "--grace-period=0", "--force",
                f"--selector=app.kubernetes.io/component={part}",
            )  # fmt: skip
            return
        os.kill(self.pid(part), signal.SIGKILL)

    def pid(self, part: str) -> int:
        """Return the process of a part of the system, or of the local cluster, as the host sees it."""
        mark = {"api": "orchestrator_api", "operator": "orchestrator_operator", "minio": "/minio"}
        wanted = mark.get(part, part)

        def search() -> int:
            for pid, words in commands():
                if any(word == wanted or word.endswith(f"/{wanted}") for word in words[:3]):
                    return pid
            return 0

        return int(until(search, f"there is a process {part}"))

    def ready(self, part: str) -> bool:
        """Return whether the deployment of a part is available."""
        status = self.get("deployment", f"{RELEASE}-{part}", NAMESPACE).get("status", {})
        return bool(status.get("availableReplicas"))

    @contextmanager
    def stopped(self, part: str) -> Iterator[None]:
        """Stop a part while the block runs."""
        name = f"deployment/{RELEASE}-{part}"
        self.kubectl("scale", name, f"--namespace={NAMESPACE}", "--replicas=0")
        selector = f"--selector=app.kubernetes.io/component={part}"
        self.kubectl(
            "wait", "pod", f"--namespace={NAMESPACE}", selector, "--for=delete", "--timeout=60s"
        )
        try:
            yield
        finally:
            self.kubectl("scale", name, f"--namespace={NAMESPACE}", "--replicas=1")
            until(lambda: self.ready(part), f"{part} is back")

    @contextmanager
    def configured(self, *settings: str) -> Iterator[None]:
        """Upgrade the release with *settings*, as `helm --set` takes them, while the block runs."""
        before = self._helm("get", "values", RELEASE, "--output=yaml")
        changes = [f"--set={setting}" for setting in settings]
        upgrade = ("upgrade", RELEASE, str(CHART), "--wait", "--timeout=120s", "--values=-")
        try:
            self._helm(*upgrade, *changes, stdin=before)
            # For a moment yet, those before answer and decide, by the rules that they had.
            until(self._replaced, "the replicas before are gone")
            yield
        finally:
            self._helm(*upgrade, stdin=before)
            until(self._replaced, "the replicas before are gone")

    def _replaced(self) -> bool:
        def count(part: str) -> int:
            selector = f"--selector=app.kubernetes.io/component={part}"
            found = self.kubectl("get", "pods", f"--namespace={NAMESPACE}", selector, "-oname")
            return len(found.split())

        def wanted(part: str) -> int:
            deployment = self.get("deployment", f"{RELEASE}-{part}", NAMESPACE)
            return int(deployment["spec"]["replicas"])

        return all(count(part) == wanted(part) for part in ("api", "operator"))

    def _helm(self, *words: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [str(BIN / "helm"), f"--kubeconfig={self.kubeconfig}", f"--namespace={NAMESPACE}", *words],
            input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"helm {' '.join(words)}: {done.stderr}"
        return done.stdout

    @contextmanager
    def forwarded(self, target: str, port: int, namespace: str) -> Iterator[str]:
        """Forward a port of a Service or pod to loopback while the block runs; gives its URL."""
        process = subprocess.Popen(
            [str(BIN / "kubectl"), f"--kubeconfig={self.kubeconfig}", f"--namespace={namespace}",
             "port-forward", target, f":{port}"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield f"http://127.0.0.1:{line.split(' -> ')[0].rpartition(':')[2]}"
        finally:
            process.terminate()
            process.communicate()

    def asked(self, *verbs: str, of: str = "") -> list[dict[str, Any]]:
        """Return the audit log's entries by our own two accounts that succeeded.

        *of* is how the names of the objects begin. Of reads the log has only the API's, of our
        own resources.
        """
        found = []
        for line in AUDIT_LOG.read_text().splitlines():
            event = json.loads(line)
            reference, user = event.get("objectRef", {}), event["user"]["username"]
            if (
                user.startswith(f"system:serviceaccount:{NAMESPACE}:")
                and event["verb"] in verbs
                and reference.get("name", "").startswith(of)
                and event["responseStatus"]["code"] < 300
            ):
                found.append({"verb": event["verb"], "user": user, **reference})
        return found

    def writes(self, job: str) -> list[dict[str, Any]]:
        """Return the writes to a job and its pods by our own two accounts."""
        return self.asked("create", "patch", "update", "delete", of=job)

    def objects(self) -> set[str]:
        """Return the folders under jobs/ that the object store has on its volume."""
        return {p.name for p in (KUBECONFIG.parent / "object-store/orchestrator/jobs").glob("*")}


def examples() -> Path:
    """Return the folder of examples that the tests use as a user would."""
    return ROOT / "hack/examples"
