"""The agent's one run: start, inputs, isolation, gate, results, end."""

import contextlib
import math
import signal
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator_agent import gate as gates
from orchestrator_agent.gateway import (
    Gateway,
    Gone,
    Refused,
    Replaced,
    Sink,
    TooLarge,
    Unavailable,
    persist,
)
from orchestrator_agent.isolation import isolated
from orchestrator_agent.packing import pack
from orchestrator_agent.settings import Settings
from orchestrator_agent.snapshots import Snapshots
from orchestrator_agent.staging import BadInputs, Corrupt, fetch, unpack
from orchestrator_agent.tree import Listed
from orchestrator_agent.watching import DiskWatch, Reporter

# How long Kubernetes, and then the object store, may be away.
START_SECONDS = STAGE_SECONDS = 600.0
# How long the user's container may take to come through the gate once the pod is told to end.
STILLBORN_SECONDS = 2.0
# After how long without it the administrator is told what may be wrong.
LATE_SECONDS = 60.0
LATE = (
    "the user's container has not come through its gate. Its image may still be on its way. Behind "
    "gVisor, containerd must hand on the pod's annotations: pod_annotations = "
    "['dev.gvisor.spec.mount.*']"
)
# How much later the one container may hear of the end of its pod than the other.
BOTH_TOLD_SECONDS = 10.0
LOG_TAIL_BYTES = 2000
# Bytes that were damaged on the way come right when they are fetched again.
FETCH_TRIES = 5
SKIPPED_NAMES, LONGEST_NAME = 20, 200
TERMINATION_LOG = Path("/dev/termination-log")


class Agent:
    """One attempt at one job."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.gateway = Gateway(settings.gateway, settings.token)
        self.log = gates.Log(gates.echo)
        self.told_to_end = False
        # Whether the user's code was let through the gate.
        self.opened = False

    def run(self) -> int:
        """Do it all; returns the exit code of the process."""
        # The user's container is stopped by its own wrapper; this one outlives it to save results.
        signal.signal(signal.SIGTERM, self._on_term)
        gates.make(self.settings.job)
        try:
            return self._attempt()
        finally:
            if not self.opened:
                gates.dismiss(self.settings.job)

    def _attempt(self) -> int:
        try:
            start = persist(lambda: self.gateway.post("/start", {}), START_SECONDS, say)
            failure = self._prepare(start)
            if failure:
                self._end({"why": failure[0], "message": failure[1]})
                return 1
            self._supervise()
        except Refused as error:
            say(f"this pod is not wanted any more: {error}")
            return 0
        except (Gone, Unavailable) as error:
            say(f"giving up: {error}")
            # The kubelet shows this as the container's message.
            with contextlib.suppress(OSError):
                TERMINATION_LOG.write_text(str(error)[:1000])
            return 1
        return 0

    def _on_term(self, *_: object) -> None:
        self.told_to_end = True

    def _prepare(self, start: dict[str, Any]) -> tuple[str, str] | None:
        """Stage the inputs in and check the network; returns what went wrong, if anything did."""
        bundle = self.settings.job / "inputs.zip"
        try:
            self._fetch(str(start["sha256"]), bundle)
            unpack(bundle, self.settings.work)
        except (BadInputs, Corrupt, Replaced) as error:
            return "corrupt", str(error)
        except Gone as error:
            return "inputs", str(error)
        finally:
            bundle.unlink(missing_ok=True)
        if not persist(lambda: isolated(self.gateway, self._awaited), STAGE_SECONDS, say):
            if self.settings.isolation_required:
                return "network", "the pod could still reach a port that its policy forbids"
            say("the network is not cut off; the service accepts that (BestEffort)")
        return None

    def _awaited(self) -> bool:
        return self.told_to_end or gates.awaited(self.settings.job)

    def _fetch(self, sha256: str, bundle: Path) -> None:
        for attempt in range(FETCH_TRIES):
            try:
                persist(lambda: fetch(self.gateway, sha256, bundle), STAGE_SECONDS, say)
            except Corrupt as error:
                if attempt == FETCH_TRIES - 1:
                    raise
                say(f"fetching the inputs again: {error}")
                time.sleep(2.0**attempt / 10)
            else:
                return

    def _supervise(self) -> None:
        """Open the gate, wait for the end, save the results and tell."""
        gate = gates.Gate(self.settings.job, self.log)
        self.opened = True
        settings = self.settings
        snapshots = Snapshots(self.gateway, settings, say)
        folders = (settings.work, settings.scratch)
        disk = DiskWatch(folders, settings.disk_bytes, gate.stop, say)
        for watch in (snapshots, Reporter(self.gateway, lambda: gate.progress), disk):
            watch.start()
        told_at, passed_on = 0.0, False
        late_at = time.monotonic() + LATE_SECONDS
        while not gate.wait(0.5):
            if not gate.started and time.monotonic() > late_at:
                say(LATE)
                late_at = math.inf
            if not self.told_to_end:
                continue
            if gate.started:
                passed_on = passed_on or gate.end()
                continue
            told_at = told_at or time.monotonic()
            if time.monotonic() - told_at > STILLBORN_SECONDS:
                break
        snapshots.stop()
        disk.stop()
        record = gate.record()
        gate.close()
        ended_at = time.monotonic()
        report = self._save_results()
        report["why"] = self._why(record, ended_at)
        if record:
            report |= {"exitCode": record.code, "oomKills": record.oom_kills}
        report |= {"logTail": self.log.last(LOG_TAIL_BYTES), "progress": gate.progress}
        self._end(report)

    def _why(self, record: gates.ExitRecord | None, ended_at: float) -> str:
        if record is None:
            return "lost"
        if record.why != "terminated":
            return record.why
        # The kubelet stops both containers at once, but main may hear of it first.
        while not self.told_to_end and time.monotonic() - ended_at < BOTH_TOLD_SECONDS:
            time.sleep(0.05)
        # If not, it was the job itself that signalled its container's first process.
        return "terminated" if self.told_to_end else "exit"

    def _save_results(self) -> dict[str, Any]:
        """Save the results; returns their receipt, or why they could not be kept."""
        skipped = Listed()

        def write(sink: Sink) -> None:
            nonlocal skipped
            skipped = pack(self.settings.work, sink, self.settings.result_bytes)

        seconds = self.settings.upload_seconds
        try:
            receipt = persist(lambda: self.gateway.put("/results", write), seconds, say)
        except TooLarge as error:
            return {"tooLarge": str(error)}
        except Unavailable as error:
            return {"resultsLost": str(error)}
        for path in skipped.paths[:SKIPPED_NAMES]:
            say(f"left out of the results, neither file nor folder: {path}")
        names = [path[:LONGEST_NAME] for path in skipped.paths[:SKIPPED_NAMES]]
        return {"results": receipt, "skippedCount": skipped.count, "skipped": names}

    def _end(self, report: dict[str, Any]) -> None:
        seconds = self.settings.upload_seconds
        try:
            persist(lambda: self.gateway.post("/end", report), seconds, say)
        except TooLarge as error:
            say(f"telling the end without details: {error}")
            brief = {k: v for k, v in report.items() if k not in {"logTail", "skipped", "progress"}}
            persist(lambda: self.gateway.post("/end", brief), seconds, say)


def say(sentence: str) -> None:
    """Tell the administrator, beside the user's log in `kubectl logs`."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"agent: {sentence}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(Agent(Settings.from_environment()).run())
