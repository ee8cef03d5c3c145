"""The agent's one run: start, inputs, isolation, gate, results, end."""

import contextlib
import signal
import sys
from typing import Any

from orchestrator_agent import gate as gates
from orchestrator_agent.gateway import Gateway, Gone, Refused, Sink, TooLarge, Unavailable, persist
from orchestrator_agent.isolation import isolated
from orchestrator_agent.packing import pack
from orchestrator_agent.settings import Settings
from orchestrator_agent.snapshots import Snapshots
from orchestrator_agent.staging import BadInputs, fetch, unpack

START_SECONDS = 120.0
STAGE_SECONDS = 600.0
# How long the user's container may take to come through the gate once the pod is told to end.
STILLBORN_SECONDS = 2.0
LOG_TAIL_BYTES = 2000


class Agent:
    """One attempt at one job."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.gateway = Gateway(settings.gateway, settings.token)
        self.log = gates.Log(gates.echo)
        self.told_to_end = False

    def run(self) -> int:
        """Do it all; returns the exit code of the process."""
        # The user's container is stopped by its own wrapper; this one outlives it to save results.
        signal.signal(signal.SIGTERM, self._on_term)
        gates.make(self.settings.job)
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
            return 1
        return 0

    def _on_term(self, *_: object) -> None:
        self.told_to_end = True

    def _prepare(self, start: dict[str, Any]) -> tuple[str, str] | None:
        """Stage the inputs in and check the network; returns what went wrong, if anything did."""
        bundle = self.settings.job / "inputs.zip"
        try:
            persist(lambda: fetch(self.gateway, str(start["sha256"]), bundle), STAGE_SECONDS, say)
            unpack(bundle, self.settings.work)
        except (BadInputs, Gone) as error:
            return "inputs", str(error)
        finally:
            bundle.unlink(missing_ok=True)
        if not persist(lambda: isolated(self.gateway), STAGE_SECONDS, say):
            if self.settings.isolation_required:
                return "network", "the pod could still reach a port that its policy forbids"
            say("the network is not cut off; the service accepts that (BestEffort)")
        return None

    def _supervise(self) -> None:
        """Open the gate, wait for the end, save the results and tell."""
        gate = gates.Gate(self.settings.job, self.log)
        settings = self.settings
        snapshots = Snapshots(self.gateway, settings.work, settings.result_bytes, say)
        snapshots.start()
        waited = 0.0
        while not gate.wait(0.5):
            if self.told_to_end and not gate.started:
                waited += 0.5
                if waited > STILLBORN_SECONDS:
                    break
        snapshots.stop()
        record = gate.record()
        gate.close()
        report: dict[str, Any] = {"why": self._why(record)}
        if record:
            report |= {"exitCode": record.code, "oomKills": record.oom_kills}
        report |= self._save_results()
        report["logTail"] = self.log.last(LOG_TAIL_BYTES)
        self._end(report)

    def _why(self, record: gates.ExitRecord | None) -> str:
        if record is None:
            return "lost"
        if record.why == "terminated" and not self.told_to_end:
            return "exit"  # it was the job itself that signalled its container's first process
        return record.why

    def _save_results(self) -> dict[str, Any]:
        """Save the results; returns their receipt, or why they could not be kept."""

        def write(sink: Sink) -> None:
            for path in pack(self.settings.work, sink, self.settings.result_bytes):
                say(f"left out of the results, neither file nor folder: {path}")

        seconds = self.settings.upload_seconds
        try:
            return {"results": persist(lambda: self.gateway.put("/results", write), seconds, say)}
        except TooLarge as error:
            return {"tooLarge": str(error)}
        except Unavailable as error:
            return {"resultsLost": str(error)}

    def _end(self, report: dict[str, Any]) -> None:
        persist(lambda: self.gateway.post("/end", report), self.settings.upload_seconds, say)


def say(sentence: str) -> None:
    """Tell the administrator, beside the user's log in `kubectl logs`."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"agent: {sentence}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(Agent(Settings.from_environment()).run())
