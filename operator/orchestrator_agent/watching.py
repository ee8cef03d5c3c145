"""What the agent looks after while the job runs: its progress, and the disk that it uses."""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from orchestrator_agent.gateway import Gateway, Gone, Refused, TooLarge, Unavailable
from orchestrator_agent.measuring import TooDeep, used_bytes

PROGRESS_SECONDS = 5.0
DISK_SECONDS = 1.0
# Measuring costs at most a tenth of the time, however many files there are.
PAUSE_PER_DURATION = 10.0
JOIN_SECONDS = 10.0


class Reporter(threading.Thread):
    """Tells the gateway how far the job is, whenever that has changed, but not too often."""

    def __init__(self, gateway: Gateway, progress: Callable[[], str]) -> None:
        super().__init__(name="progress", daemon=True)
        self._gateway, self._progress = gateway, progress

    def run(self) -> None:
        """Tell again and again; ends when the gateway does not want to hear it."""
        told = ""
        while True:
            text = self._progress()
            if text == told:
                time.sleep(0.5)
                continue
            try:
                self._gateway.post("/progress", {"text": text})
                told = text
            except Unavailable:
                pass  # the next time will do
            except (Refused, Gone, TooLarge):
                return
            time.sleep(PROGRESS_SECONDS)


class DiskWatch(threading.Thread):
    """Has the job stopped when it uses more disk than its service allows.

    The kubelet would evict the pod a little above that, and nothing could be saved.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        limit: int,
        stop: Callable[[], bool],
        log: Callable[[str], None],
    ) -> None:
        super().__init__(name="disk", daemon=True)
        self._folders, self._limit, self._tell, self._log = tuple(folders), limit, stop, log
        self._over = threading.Event()

    def run(self) -> None:
        """Measure, and tell the job to stop when it is time, until `stop`."""
        pause = DISK_SECONDS
        while not self._over.wait(pause):
            started = time.monotonic()
            try:
                # Twice, since what is moved meanwhile may be counted where it was and where it is.
                # Told again and again: the job itself might have read the word.
                if self._too_much() and (why := self._too_much()) and self._tell():
                    self._log(f"stopping the job: {why}")
            except OSError as error:
                self._log(f"cannot measure the disk this time: {error}")
            pause = max(DISK_SECONDS, PAUSE_PER_DURATION * (time.monotonic() - started))

    def _too_much(self) -> str:
        """Return what there is too much of, or nothing."""
        try:
            used = used_bytes(self._folders, self._enough)
        except TooDeep as error:
            return str(error)
        over = f"it uses {used} of {self._limit} bytes of disk, or more"
        return over if used > self._limit else ""

    def _enough(self, used: int) -> bool:
        return used > self._limit or self._over.is_set()

    def stop(self) -> None:
        """Measure no more."""
        self._over.set()
        if self.is_alive():
            self.join(JOIN_SECONDS)
