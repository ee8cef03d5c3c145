"""What files are called in the zip: a stranger named them, and others unpack it on any system.

What could lead out of a folder, hide a name's end or steer a terminal is written as %xx, byte by
byte. Of names that are one and the same then, or to a tool that composes accents, as bsdtar does,
each but the first gets a number. Names that differ by case stay: `chainA.pdb` and `chaina.pdb` are
two results, and whose they are wants both.
"""

import re
import unicodedata

# Control, format (right-to-left overrides), surrogates (bytes that are no text), private use,
# line and paragraph separators: the rule for uploaded names, too.
_HOSTILE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_DRIVE = re.compile("[A-Za-z]:")
# What most file systems take, in bytes, and how much of it leaves room for a number.
LONGEST, CUT = 255, 240


def harmless(name: str, *, top: bool = False) -> str:
    """Return *name*, one part of a path, so that it can do no harm; *top* is where paths begin."""
    if not name.isprintable() or "\\" in name:
        name = "".join(_written(c) if _is_hostile(c) else c for c in name)
    if not name.strip(". ") or (top and _DRIVE.match(name)):
        # Some systems drop dots and spaces at the end: `.. ` would be the folder above.
        name = "".join(_written(c) if c in ". :" else c for c in name)
    return name if len(name.encode()) <= LONGEST else _cut(name)


def _is_hostile(character: str) -> bool:
    return character == "\\" or unicodedata.category(character) in _HOSTILE


def _written(character: str) -> str:
    return "".join(f"%{byte:02x}" for byte in character.encode(errors="surrogateescape"))


def _cut(name: str) -> str:
    return name.encode()[:CUT].decode(errors="ignore")


class Names:
    """What has been called how, in one folder."""

    def __init__(self) -> None:
        # By hash, since names are long and many: the number that the next such name gets.
        self._taken: dict[int, int] = {}

    def of(self, name: str, *, top: bool = False) -> str:
        """Return what *name* is called in the zip; *top* is where paths begin."""
        first = shown = harmless(name, top=top)
        key = _composed(first)
        while (taken := _composed(shown)) in self._taken:
            number = self._taken[key]
            self._taken[key] = number + 1
            shown = f"{_cut(first)}~{number}"
        self._taken[taken] = 2
        return shown


def _composed(shown: str) -> int:
    return hash(unicodedata.normalize("NFC", shown))
