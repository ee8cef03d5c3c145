"""A job's pod as plain processes: the real agent and the real wrapper over two real FIFOs.

The wrapper must be PID 1, since it signals every process it sees, so it gets a pid namespace.
"""

import io
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import orchestrator_agent

PACKAGE = Path(orchestrator_agent.__file__).parent
# Jobs are nice; where a session is no group of the scheduler, they are to all other tests, too.
PATIENCE_SECONDS = 80.0
AGENT = """
import sys
from orchestrator_agent import __main__ as agent
agent.LATE_SECONDS = {}
agent.isolated.__defaults__ = ({},)
sys.exit(agent.Agent(agent.Settings.from_environment()).run())
"""


def bundle(**files: str) -> bytes:
    """Return an input zip; a keyword `run_sh` becomes run.sh."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", ".", 1), text)
    return buffer.getvalue()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when *condition* holds; fails after a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"still waiting until {what}"
        time.sleep(0.02)


class PlainPod:
    """Two processes that share a working directory and a /job folder."""

    def __init__(self, folder: Path, gateway: str) -> None:
        self.work, self.job, self.token = folder / "work", folder / "job", folder / "token"
        self.scratch = folder / "scratch"
        for made in (self.work, self.job, self.scratch):
            made.mkdir()
        self.token.write_text("secret\n")
        self._gateway = gateway
        self.agent: subprocess.Popen[bytes] | None = None
        self.main: subprocess.Popen[bytes] | None = None

    def start_agent(
        self,
        *,
        isolation: str = "Required",
        upload_seconds: float = 5,
        result_bytes: int = 1 << 30,
        disk_bytes: int = 1 << 30,
        snapshot_bytes: int = 1 << 30,
        late_seconds: float = 60,
        patience_seconds: float = 30,
    ) -> None:
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PACKAGE.parent),
            "GATEWAY": self._gateway,
            "WORK": str(self.work),
            "JOB": str(self.job),
            "TOKEN": str(self.token),
            "UPLOAD_SECONDS": str(upload_seconds),
            "SCRATCH": str(self.scratch),
            "RESULT_BYTES": str(result_bytes),
            "DISK_BYTES": str(disk_bytes),
            "SNAPSHOT_BYTES": str(snapshot_bytes),
            "NETWORK_ISOLATION": isolation,
        }
        self.agent = subprocess.Popen(
            [sys.executable, "-s", "-S", "-c", AGENT.format(late_seconds, patience_seconds)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def start_main(
        self, *, deadline: int = 60, grace: int = 1, shell: str = "sh", slow_line: str = "", failing_line: str = "",
    ) -> None:  # fmt: skip
        """Start the wrapper, which takes its time before *slow_line*, and fails at *failing_line*."""
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        wrapper = (PACKAGE / "wrapper.sh").read_text()
        if slow_line:
            assert wrapper.count(f"\n{slow_line}\n") == 1
            wrapper = wrapper.replace(f"\n{slow_line}\n", f"\nsleep 0.5\n{slow_line}\n")
        if failing_line:
            assert wrapper.count(f"\n{failing_line}\n") == 1
            wrapper = wrapper.replace(f"\n{failing_line}\n", "\nexit 2\n")
        self.main = subprocess.Popen(
            [
                "unshare",
                *user,
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                shell,
                "-c",
                wrapper,
                "wrapper",
                str(deadline),
                str(grace),
                "bash",
                "run.sh",
            ],
            cwd=self.work,
            # So that it gives way to its wrapper alone, as in a container, where that can be had.
            start_new_session=True,
            env={
                "PATH": os.environ["PATH"],
                "ORCHESTRATOR_JOB_FOLDER": str(self.job),
                "ORCHESTRATOR_PROGRESS": str(self.job / "progress"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def signal_main(self, number: int) -> None:
        """Send a signal to the wrapper, as the kubelet does to a container's PID 1."""
        os.kill(self._wrapper(), number)

    def main_hears(self, number: int) -> bool:
        """Return whether the wrapper has a handler for a signal; without one it would be lost."""
        status = Path(f"/proc/{self._wrapper()}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (number - 1) & 1)

    def _wrapper(self) -> int:
        assert self.main is not None
        children = Path(f"/proc/{self.main.pid}/task/{self.main.pid}/children")
        wait_until(lambda: bool(children.read_text().strip()), "the wrapper runs")
        return int(children.read_text().split()[0])

    def finish(self) -> tuple[int, bytes, bytes]:
        """Wait for the agent; returns its exit code, output and error output."""
        assert self.agent is not None
        out, err = self.agent.communicate(timeout=PATIENCE_SECONDS)
        return self.agent.returncode, out, err

    def close(self) -> None:
        """End what still runs."""
        for process in (self.agent, self.main):
            if process is not None:
                process.kill()
                process.communicate()
