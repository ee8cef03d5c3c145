"""The working directory of a job, gone through with nothing followed.

The tree was made by a stranger's code, and while that still runs it changes under our hands:
every folder and file is opened by its own name in its parent's descriptor, never through a link,
never waiting for the other end of a FIFO, and looked at again once open.
"""

import contextlib
import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator_agent.gateway import TooLarge
from orchestrator_agent.naming import Names

# Folders that may wait to be looked into.
MOST_FOLDERS = 150_000
DEEPEST = 200
# Of a folder's entries so many are sorted together.
SORTED = 10_000
NAMED, LONGEST_NAMED = 500, 1000
SAFE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder by its place, since whole paths of a hostile tree would fill the memory."""

    above: "Folder | None" = None
    name: str = ""
    # What it is called in the zip.
    shown: str = ""
    depth: int = 0

    def names(self) -> list[tuple[str, str]]:
        """Return (name, what it is called in the zip) of each folder from the top to this one."""
        found, folder = [], self
        while folder.above is not None:
            found.append((folder.name, folder.shown))
            folder = folder.above
        return found[::-1]


@dataclass(frozen=True)
class Item:
    """One thing below the working directory, and how to open it."""

    folder: Folder
    directory: int
    name: str
    shown: str
    info: os.stat_result

    @property
    def path(self) -> str:
        """Return its path in the zip."""
        return path_of(self.folder, self.shown)


def path_of(folder: Folder, shown: str) -> str:
    """Return the path in the zip of what is called *shown* in *folder*."""
    return "/".join([*(inner for _, inner in folder.names()), shown])


@dataclass
class Listed:
    """How many there are of something, and the first paths."""

    count: int = 0
    paths: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.paths) < NAMED:
            self.paths.append(path[:LONGEST_NAMED])


def walk(folder: Path, skipped: Listed, renamed: Listed | None = None) -> Iterator[Item]:
    """Yield every file, every empty folder, and every other thing below *folder*.

    Folders that cannot be opened, or lie too deep, are added to *skipped*. With *renamed*, names
    that could do harm are shown otherwise, and added to it. Raises TooLarge for more folders side
    by side than can be remembered.
    """
    waiting = [Folder()]
    while waiting:
        here = waiting.pop()
        try:
            directory = _descend(folder, here)
        except OSError:
            skipped.add(path_of(here.above, here.shown) if here.above else "")
            continue
        names = Names()
        try:
            for name in _listed(directory):
                try:
                    info = os.stat(name, dir_fd=directory, follow_symlinks=False)
                except OSError:
                    continue  # it went away between listing and looking
                shown = name if renamed is None else names.of(name, top=not here.depth)
                if renamed is not None and shown != name:
                    renamed.add(path_of(here, shown))
                if not stat.S_ISDIR(info.st_mode) or _is_empty(name, directory):
                    yield Item(here, directory, name, shown, info)
                elif here.depth >= DEEPEST:
                    skipped.add(path_of(here, shown))
                elif len(waiting) == MOST_FOLDERS:
                    raise TooLarge(f"The job left more than {MOST_FOLDERS} folders side by side.")
                else:
                    waiting.append(Folder(here, name, shown, here.depth + 1))
        finally:
            os.close(directory)


def _listed(directory: int) -> Iterator[str]:
    """Yield the names in a folder, of which there may be more than fit into memory."""
    with os.scandir(directory) as entries:
        while some := sorted(entry.name for entry in itertools.islice(entries, SORTED)):
            yield from some


def _descend(top: Path, folder: Folder) -> int:
    """Open *folder* below *top*, name by name, so that no link is followed."""
    directory = os.open(top, os.O_DIRECTORY | SAFE)
    for name, _ in folder.names():
        outer, directory = directory, -1
        try:
            directory = open_one(name, outer, stat.S_IRUSR | stat.S_IXUSR, os.O_DIRECTORY)
        finally:
            os.close(outer)
    return directory


def open_one(name: str, directory: int, needed: int, flags: int = 0) -> int:
    """Open *name*, after giving its owner, who is also us, the rights that the job took away."""
    info = os.stat(name, dir_fd=directory, follow_symlinks=False)
    wanted = stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode)
    if wanted and info.st_mode & needed != needed:
        # There is no chmod that follows no link; a file that is a link by now is refused below.
        with contextlib.suppress(OSError):
            os.chmod(name, stat.S_IMODE(info.st_mode) | needed, dir_fd=directory)
    return os.open(name, SAFE | flags, dir_fd=directory)


def _is_empty(name: str, directory: int) -> bool:
    try:
        descriptor = open_one(name, directory, stat.S_IRUSR | stat.S_IXUSR, os.O_DIRECTORY)
    except OSError:
        return False
    try:
        with os.scandir(descriptor) as entries:
            return next(entries, None) is None
    finally:
        os.close(descriptor)


def signature(folder: Path) -> tuple[str, int]:
    """Return a digest that changes when a name, size or time below *folder* does, and the size.

    The size is that of the files, in bytes.
    """
    total, size = hashlib.sha256(), 0
    for item in walk(folder, Listed()):
        info = item.info
        size += info.st_size if stat.S_ISREG(info.st_mode) else 0
        line = f"{item.path}\0{info.st_size}\0{info.st_mtime_ns}\0{info.st_mode}\n"
        total.update(line.encode(errors="surrogateescape"))
    return total.hexdigest(), size
