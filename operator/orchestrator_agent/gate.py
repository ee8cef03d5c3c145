"""The start gate, the log and two more: the FIFOs that join the agent to the user's container.

The wrapper waits for a word in `go`, which is the start, then opens `gate` for writing and says so.
However the user's container dies, the kernel closes its end of the gate and this side reads EOF.
`log` and `progress` come from the job; a word into `stop` has the wrapper stop it.
"""

import contextlib
import errno
import os
import select
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KEPT_BYTES = 64 * 1024
ECHOED_BYTES = 16 * 1024 * 1024
LONGEST_RECORD = 4096
LARGEST_PIPE = 1 << 20
LONGEST_PROGRESS = 1000
GO_SECONDS = 0.02


@dataclass(frozen=True)
class ExitRecord:
    """How the entrypoint ended: exit, deadline, disk or terminated; its code; OOM kills seen."""

    why: str
    code: int
    oom_kills: int


class Log:
    """What the user's code printed: echoed, and its first and last parts kept."""

    def __init__(self, echo: Callable[[bytes], object]) -> None:
        self._echo = echo
        self._echoed = 0
        self.head = bytearray()
        self.tail = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes of the log."""
        self.size += len(data)
        if self._echoed < ECHOED_BYTES:
            self._echo(data)
            self._echoed += len(data)
            if self._echoed >= ECHOED_BYTES:
                self._echo(b"\n[the log goes on, but no more of it is shown here]\n")
        room = KEPT_BYTES - len(self.head)
        self.head += data[:room]
        self.tail += data[max(room, 0) :]
        if len(self.tail) > 2 * KEPT_BYTES:
            del self.tail[:-KEPT_BYTES]

    def last(self, size: int) -> str:
        """Return at most the last *size* bytes, as text."""
        return bytes(self.head + self.tail)[-size:].decode(errors="replace")


def make(job: Path) -> None:
    """Make the FIFOs. Until then the user's container waits for them to exist."""
    # `gate` last: the wrapper takes its existence as the sign that all are there.
    for name in ("log", "progress", "stop", "go", "gate"):
        with contextlib.suppress(FileExistsError):
            os.mkfifo(job / name, 0o600)


def awaited(job: Path) -> bool:
    """Return whether the user's container has come to the gate, and waits for it."""
    try:
        # Without a reader the kernel refuses; the reader sees a writer come and go, and waits on.
        os.close(_open(job / "go", os.O_WRONLY))
    except OSError:
        return False
    return True


def dismiss(job: Path) -> None:
    """Let the user's container go, which will not be started.

    SIGTERM would not always do: before its first process has a handler, the kernel drops it.
    """
    with contextlib.suppress(OSError):
        # Held open as a writer, so that whoever waits in opening it is let in, and then reads EOF.
        end = os.open(job / "go", os.O_RDWR | os.O_NONBLOCK)
        (job / "go").unlink()
        os.close(end)


def echo(data: bytes) -> None:
    """Write to standard output, so that `kubectl logs` shows the user's log."""
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _open(path: Path, flags: int) -> int:
    """Open a FIFO; raises OSError for anything else that was put in its place."""
    end = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if stat.S_ISFIFO(os.fstat(end).st_mode):
        return end
    os.close(end)
    raise OSError(errno.ENXIO, "no FIFO", str(path))


_ENDS = {"exit", "deadline", "disk", "terminated"}


class Gate:
    """The agent's end of the FIFOs, open from the start of the user's code to its end."""

    def __init__(self, job: Path, log: Log) -> None:
        self._job, self._log = job, log
        # Held open for writing too, so that a job that closes its output does not look ended.
        self._log_end = _open(job / "log", os.O_RDWR)
        self._progress_end = _open(job / "progress", os.O_RDWR)
        self._gate_end = _open(job / "gate", os.O_RDONLY)
        self._said = bytearray()
        self._progress = bytearray()
        self._poll = select.poll()
        self._poll.register(self._log_end, select.POLLIN)
        self._poll.register(self._progress_end, select.POLLIN)
        self._poll.register(self._gate_end, select.POLLIN)

    @property
    def started(self) -> bool:
        """Whether the user's container has come through the gate."""
        return bool(self._said)

    def wait(self, seconds: float) -> bool:
        """Move what comes for at most *seconds*; returns whether the user's container ended.

        The first calls start the user's code, as soon as its container waits for that.
        """
        if not self.started:
            # Again and again, since a word is lost on a reader who is about to look anew.
            self._write("go", "now")
            seconds = min(seconds, GO_SECONDS)
        for descriptor, event in self._poll.poll(seconds * 1000):
            if descriptor == self._log_end:
                self._drain()
            elif descriptor == self._progress_end:
                self._read_progress()
            elif event & select.POLLIN:
                # The job may write here too; the wrapper has the last word.
                self._said += os.read(self._gate_end, LONGEST_RECORD)
                del self._said[:-LONGEST_RECORD]
            elif event & select.POLLHUP:
                self._drain()
                self._read_progress()
                return True
        return False

    def _read_progress(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._progress += os.read(self._progress_end, 1 << 16)
            del self._progress[:-LONGEST_PROGRESS]

    @property
    def progress(self) -> str:
        """Return the last whole line that the job wrote about its progress, or an empty text."""
        lines = bytes(self._progress).decode(errors="replace").split("\n")[:-1]
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def stop(self) -> bool:
        """Have the wrapper stop the job for want of disk; returns whether it was told."""
        return self._write("stop", "disk")

    def end(self) -> bool:
        """Have the wrapper stop the job since its pod is to end; returns whether it was told.

        It gets SIGTERM like any other, but before its first process has a handler the kernel drops
        that. Being told twice is being told once.
        """
        return self._write("stop", "end")

    def _write(self, name: str, word: str) -> bool:
        """Write a word into a FIFO, if somebody reads it; returns whether that is so."""
        try:
            end = _open(self._job / name, os.O_WRONLY)
        except OSError:
            return False
        try:
            os.write(end, f"{word}\n".encode())
        except OSError:
            return False
        finally:
            os.close(end)
        return True

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            # No more than a pipe can hold: a flood must not keep us from the gate.
            for _ in range(LARGEST_PIPE >> 16):
                data = os.read(self._log_end, 1 << 16)
                self._log.add(data)
                if len(data) < 1 << 16:
                    return

    def record(self) -> ExitRecord | None:
        """Return what the wrapper said at its end, or None when it died without a word."""
        for line in reversed(self._said.decode(errors="replace").splitlines()):
            words = line.split()
            if len(words) == 3 and words[0] in _ENDS:
                try:
                    return ExitRecord(words[0], int(words[1]), int(words[2]))
                except ValueError:
                    return None
        return None

    def close(self) -> None:
        """Close the agent's ends."""
        os.close(self._log_end)
        os.close(self._progress_end)
        os.close(self._gate_end)
