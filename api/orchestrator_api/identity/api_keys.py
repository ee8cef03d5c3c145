"""API keys: random texts, of which only hashes are kept, in a file that may change at any time.

The file is a Secret's, so that keys are given and taken by the same means as all else. A key is
`orc_` and 256 random bits in any spelling:

    docking-portal:
      sha256: [9f86d08…]           # two while one takes the other's place
      role: portal                 # or user, with user: "42", or administrator
      users: ["*"]
      services: [docking]
"""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from orchestrator_api.identity.principals import Entry, Principal

log = logging.getLogger(__name__)
PREFIX = "orc_"
LOOK_SECONDS = 1.0


class KeyEntry(Entry):
    """Whom one or several keys stand for."""

    sha256: tuple[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], ...] = Field(
        min_length=1, max_length=16
    )


class BadKeyFile(ValueError):  # noqa: N818
    """The file of keys cannot be read; the message says where and why."""


def hashed(key: str) -> str:
    """Return what is kept of a key. It holds 256 random bits, so that no slow hash is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def read(text: str) -> dict[str, Principal]:
    """Return whom each hash stands for; raises BadKeyFile."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # Not the error itself, which quotes the file.
        raise BadKeyFile(f"The file of API keys is no YAML{_where(error)}.") from None
    if found is None:
        found = {}
    if not isinstance(found, dict):
        raise BadKeyFile("The file of API keys must map names to entries.")
    principals: dict[str, Principal] = {}
    for name, entry in found.items():
        try:
            one = KeyEntry.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise BadKeyFile(f"API key entry {name}: {field}: {first['msg']}.") from None
        for digest in one.sha256:
            if digest in principals:
                raise BadKeyFile(f"API key entry {name} has a key that another entry has, too.")
            principals[digest] = one.principal(str(name))
    return principals


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f": line {mark.line + 1}" if mark else ""


class ApiKeys:
    """The keys that hold now."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read *path*; raises BadKeyFile or OSError."""
        self._path, self._clock = path, clock
        self._text = path.read_text()
        self._known = read(self._text)
        self._looked_at = clock()

    def find(self, key: str) -> Principal | None:
        """Return whom *key* stands for, or None."""
        if self._clock() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = self._clock()
            self._look()
        return self._known.get(hashed(key))

    def _look(self) -> None:
        """Read the file again; one that is wrong changes nothing."""
        try:
            text = self._path.read_text()
            if text != self._text:
                self._known = read(text)
                self._text = text
                log.info("API keys were read anew: %d hold.", len(self._known))
        except (OSError, BadKeyFile) as error:
            log.error("API keys stay as they were: %s", error)  # noqa: TRY400  (it quotes the file)
