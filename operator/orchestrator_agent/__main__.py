"""The agent's one run: start, inputs, isolation, gate, results, end."""

import contextlib
import signal
import sys
from typing import Any

from orchestrator_agent import gate as gates
from orchestrator_agent.gateway import Gateway, Refused, Sink, TooLarge, Unavailable, persist
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
        except Unavailable as error:
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
        except BadInputs as error:
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
        snapshots = Snapshots(self.gateway, self.settings.work, say)
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
        report: dict[str, Any] = {"why": record.why if record else "lost"}
        if record:
            report |= {"exitCode": record.code, "oomKills": record.oom_kills}
        try:
            report["results"] = self._save_results()
        except TooLarge as error:
            report["tooLarge"] = str(error)
        report["logTail"] = self.log.last(LOG_TAIL_BYTES)
        self._end(report)

    def _save_results(self) -> dict[str, Any]:
        def write(sink: Sink) -> None:
            for path in pack(self.settings.work, sink):
                say(f"left out of the results, neither file nor folder: {path}")

        return persist(
            lambda: self.gateway.put("/results", write), self.settings.upload_seconds, say
        )

    def _end(self, report: dict[str, Any]) -> None:
        persist(lambda: self.gateway.post("/end", report), self.settings.upload_seconds, say)


def say(sentence: str) -> None:
    """Tell the administrator, beside the user's log in `kubectl logs`."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"agent: {sentence}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(Agent(Settings.from_environment()).run())
