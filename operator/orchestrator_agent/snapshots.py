"""Partial results while the job runs: paced, one at a time, only when something changed."""

import threading
import time
from collections.abc import Callable

from orchestrator_agent.gateway import Gateway, Gone, Refused, Sink, TooLarge, Unavailable
from orchestrator_agent.packing import pack
from orchestrator_agent.settings import Settings
from orchestrator_agent.tree import signature

SHORTEST_PAUSE_SECONDS = 5.0
# A snapshot costs at most a tenth of the time.
PAUSE_PER_DURATION = 10.0
JOIN_SECONDS = 60.0


class _Stopped(Exception):  # noqa: N818
    """There is no need for this snapshot any more: the results come next."""


class _Stoppable:
    """A sink that ends a snapshot half-way once the job is over."""

    def __init__(self, sink: Sink, over: threading.Event) -> None:
        self._sink, self._over = sink, over

    def write(self, data: bytes) -> int:
        if self._over.is_set():
            raise _Stopped
        return self._sink.write(data)


class Snapshots(threading.Thread):
    """Saves the working directory again and again until told to stop.

    One that is larger than `snapshot_bytes` is saved only when somebody asks for it.
    """

    def __init__(self, gateway: Gateway, settings: Settings, log: Callable[[str], None]) -> None:
        super().__init__(name="snapshots", daemon=True)
        self._gateway, self._work, self._log = gateway, settings.work, log
        self._limit, self._paced = settings.result_bytes, settings.snapshot_bytes
        self._over = threading.Event()
        self._last = ""
        # Whether the gateway knows that snapshots must be asked for, and the last answer to that.
        self._on_request, self._asked, self._served = False, "", ""

    def run(self) -> None:
        """Take snapshots until `stop`."""
        pause = SHORTEST_PAUSE_SECONDS
        while not self._over.wait(pause):
            started = time.monotonic()
            try:
                self._once()
            except (Unavailable, OSError) as error:
                self._log(f"no snapshot this time: {error}")
            except (Refused, Gone, TooLarge) as error:
                self._log(f"no more snapshots: {error}")
                return
            pause = max(SHORTEST_PAUSE_SECONDS, PAUSE_PER_DURATION * (time.monotonic() - started))

    def _once(self) -> None:
        now, size = signature(self._work)
        if now == self._last or (size > self._paced and not self._wanted()):
            return
        try:
            self._gateway.put("/snapshot", self._pack)
        except _Stopped:
            return
        self._last, self._served = now, self._asked

    def _wanted(self) -> bool:
        if not self._on_request:
            self._gateway.post("/snapshots-on-request", {})
            self._on_request = True
            self._log("the working directory is large: snapshots are taken on request only")
        self._asked = str(self._gateway.get("/snapshot-wanted").get("at") or "")
        return self._asked != self._served

    def _pack(self, sink: Sink) -> None:
        pack(self._work, _Stoppable(sink, self._over), self._limit)

    def stop(self) -> None:
        """Give up the one under way, and take no other."""
        self._over.set()
        if self.is_alive():
            self.join(JOIN_SECONDS)
