"""Numbered steps with a progress display: which of how many, how long, where the log is."""

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from local.paths import LOGS

console = Console(stderr=True, highlight=False, soft_wrap=True)


class StepFailed(Exception):  # noqa: N818
    """A step could not be done; the message says what failed, why, and what to do."""


@dataclass(frozen=True)
class Step:
    """One step: its name, what does it, and the name of its log under the cache's logs folder."""

    name: str
    run: Callable[["Note"], None]
    log: str


class Note:
    """What a running step can say: a word on the progress line, and lines in its log."""

    def __init__(self, log: Path, show: Callable[[str], None]) -> None:
        self.log = log
        self.show = show

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        hint: str = "",
    ) -> None:
        """Run a command with its output in the log; raises StepFailed with the output's end."""
        words = [os.fspath(a) for a in argv]
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(words)}\n".encode())
            log.flush()
            try:
                done = subprocess.run(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=cwd,
                    check=False,
                    env={**os.environ, **(env or {})},
                )
            except FileNotFoundError as error:
                raise StepFailed(f"The command {words[0]} is missing. {hint}".strip()) from error
        if done.returncode:
            name = Path(words[0]).name
            sentence = f"{name} ended with exit code {done.returncode}. {hint}"
            raise StepFailed(f"{sentence}\n{tail(self.log)}")


def together(*steps: Step) -> Callable[[Note], None]:
    """Return what runs *steps* at the same time, each with its own log; the first failure counts.

    For steps of which one computes while another waits for the network.
    """

    def run(note: Note) -> None:
        said = {step.name: "" for step in steps}

        def show(name: str, word: str) -> None:
            said[name] = word
            note.show(" · ".join(f"{n}: {w}" for n, w in said.items() if w))

        def one(step: Step) -> None:
            log = LOGS / f"{step.log}.log"
            log.write_text("")
            step.run(Note(log, functools.partial(show, step.name)))
            said[step.name] = ""

        with ThreadPoolExecutor(len(steps)) as pool:
            for future in [pool.submit(one, step) for step in steps]:
                future.result()

    return run


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, or an empty text when there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


@contextmanager
def _line(text: str) -> Iterator[Callable[[str], None]]:
    """Show a line with a running clock on a terminal, and nothing until the end elsewhere."""
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(text)
        yield lambda note: progress.update(task, description=f"{text} · {note}")


def run_steps(steps: Sequence[Step]) -> None:
    """Run *steps* in order; on the first that fails, say why and exit with 1."""
    LOGS.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(steps, 1):
        log = LOGS / f"{step.log}.log"
        log.write_text("")
        title = f"{number:>2}/{len(steps)} {step.name}"
        started = time.monotonic()
        try:
            with _line(f"{title} · log: {log}") as show:
                step.run(Note(log, show))
        except (StepFailed, OSError, subprocess.SubprocessError) as error:
            _give_up(title, error, log)
        console.print(f"[green]✓[/] {title} [dim]{time.monotonic() - started:.1f} s[/]")


def _give_up(title: str, error: Exception, log: Path) -> NoReturn:
    console.print(f"[red]✗ {title}[/]")
    console.print(str(error), markup=False)
    console.print(f"The whole log: {log}", markup=False)
    sys.exit(1)
