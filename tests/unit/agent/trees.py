"""Hostile trees."""

import os
from pathlib import Path


def deep(top: Path, depth: int, name: bytes) -> int:
    """Make a folder in a folder, and so on; returns a descriptor of the last."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    return here
