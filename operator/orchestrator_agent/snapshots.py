"""Partial results while the job runs: paced, one at a time, only when something changed."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator_agent.gateway import Gateway, Refused, Sink, TooLarge, Unavailable
from orchestrator_agent.packing import pack, signature

SHORTEST_PAUSE_SECONDS = 5.0
# A snapshot costs at most a tenth of the time.
PAUSE_PER_DURATION = 10.0
JOIN_SECONDS = 60.0


class Snapshots(threading.Thread):
    """Saves the working directory again and again until told to stop."""

    def __init__(
        self, gateway: Gateway, work: Path, limit: int, log: Callable[[str], None]
    ) -> None:
        super().__init__(name="snapshots", daemon=True)
        self._gateway, self._work, self._limit, self._log = gateway, work, limit, log
        self._over = threading.Event()
        self._last = ""

    def run(self) -> None:
        """Take snapshots until `stop`."""
        pause = SHORTEST_PAUSE_SECONDS
        while not self._over.wait(pause):
            started = time.monotonic()
            try:
                self._once()
            except (Unavailable, OSError) as error:
                self._log(f"no snapshot this time: {error}")
            except (Refused, TooLarge) as error:
                self._log(f"no more snapshots: {error}")
                return
            pause = max(SHORTEST_PAUSE_SECONDS, PAUSE_PER_DURATION * (time.monotonic() - started))

    def _once(self) -> None:
        now = signature(self._work)
        if now != self._last:
            self._gateway.put("/snapshot", self._pack)
            self._last = now

    def _pack(self, sink: Sink) -> None:
        pack(self._work, sink, self._limit)

    def stop(self) -> None:
        """Let the one under way finish, if it does so soon, and take no other."""
        self._over.set()
        if self.is_alive():
            self.join(JOIN_SECONDS)
