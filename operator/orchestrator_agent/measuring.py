"""How much disk a job takes, however hostile the tree that it made."""

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orchestrator_agent.tree import SAFE, open_one

# To measure, each folder on the way down stays open, with two descriptors of the thousand that
# there are.
DEEPEST_MEASURED = 400
# Files with hard links that are remembered, so as to be counted once.
MOST_LINKED = 150_000
# The least that a file takes on most file systems.
BLOCK = 4096
# A folder's descriptor, and what is left to be looked at of it.
Opened = tuple[int, "os._ScandirIterator[str]"]


class TooDeep(Exception):  # noqa: N818
    """The job has folders in folders, deeper than is looked: how much is there, nobody knows."""


def used_bytes(folders: Iterable[Path], enough: Callable[[int], bool] = lambda _: False) -> int:
    """Return how much disk everything in *folders* takes; hard links count once.

    Whatever takes less counts as a block, since a node has only so many files and folders. Stops
    as soon as *enough* says so of what it has, in bytes. Raises TooDeep.
    """
    total = 0
    seen: set[tuple[int, int]] = set()
    for info in itertools.chain.from_iterable(map(_everything, folders)):
        if enough(total):
            return total
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            if (info.st_dev, info.st_ino) in seen:
                continue
            if len(seen) < MOST_LINKED:
                seen.add((info.st_dev, info.st_ino))
        total += max(info.st_blocks * 512, BLOCK)
    return total


def _everything(top: Path) -> Iterator[os.stat_result]:
    """Yield what each thing below *top* is, however many there are; raises TooDeep.

    Unlike `tree.walk`, it remembers nothing but the way down, whose folders stay open.
    """
    way = [_entered(os.open(top, os.O_DIRECTORY | SAFE))]
    try:
        while way:
            directory, entries = way[-1]
            entry = next(entries, None)
            if entry is None:
                _leave(way)
                continue
            if len(way) > DEEPEST_MEASURED + 1:
                raise TooDeep(f"it has folders in folders, more than {DEEPEST_MEASURED} deep")
            try:
                info = entry.stat(follow_symlinks=False)
                yield info
                if stat.S_ISDIR(info.st_mode):
                    needed = stat.S_IRUSR | stat.S_IXUSR
                    way.append(_entered(open_one(entry.name, directory, needed, os.O_DIRECTORY)))
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                    raise TooDeep("it has folders in folders, too deep to be opened") from error
                # Otherwise it went away meanwhile.
    finally:
        while way:
            _leave(way)


def _entered(directory: int) -> Opened:
    try:
        return directory, os.scandir(directory)
    except OSError:
        os.close(directory)
        raise


def _leave(way: list[Opened]) -> None:
    directory, entries = way.pop()
    entries.close()
    os.close(directory)
