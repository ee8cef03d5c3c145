"""Makes files with names that could harm whoever unpacks them: `python3 tree.py`, in the working directory.

Each holds its own path, so that one written over another is missed.
"""

import os

NAMES = [
    # Ways out, for those who take a backslash, a drive or dots and spaces at the end for something.
    "..\\..\\out", "\\out", "\\\\host\\share", "C:\\out", "C:out", "..\\", ".. ", "...", " ", ". .",
    # What moves a cursor, hides a name's end, or ends a line in a list.
    "line\nfeed", "return\rline", "escape\x1b[2J\x1b]0;title\x07", "delete\x7f", "next\x85line",
    "evil\u202egpj.sh", "hidden\u200b", "separator\u2028line", "private\ue000",
    # Names of devices, and of options.
    "CON", "aux.txt", "nul", "COM1", "-rf", "--help", "@list", "*", "?", "$(id)", "`id`", "~", "|id", "<>",
    # One and the same to some file systems, though not to those that jobs run on.
    "README", "Readme", "readme", "readme~2", "stra\u00dfe", "STRASSE", "\u00e9", "e\u0301", "dot", "dot.", "dot ",
    # Long, and no text at all.
    "x" * 255, "y" * 254 + "\x01", "\u00fc" * 127, os.fsdecode(b"\xff\xfe\x00"[:2]), os.fsdecode(b"caf\xe9"), "%ff%fe",
]  # fmt: skip
FOLDERS = [
    "..\\..",
    "C:",
    "Folder",
    "folder",
    "FOLDER ",
    "d\x1b[31m",
    os.fsdecode(b"\xe9"),
    "....",
    "z" * 255,
]


def put(path: str) -> None:
    """Make a file that holds its path."""
    with open(path, "wb") as file:  # noqa: PTH123  (as little as there is, for any Python)
        file.write(os.fsencode(path))


for name in NAMES:
    put(name)
for folder in FOLDERS:
    os.mkdir(folder)  # noqa: PTH102
    put(f"{folder}/file")
    put(f"{folder}/FILE")
# A file in the place of another's folder, and one that runs as whoever made it.
put("Thing")
os.mkdir("thing")  # noqa: PTH102
put("thing/inner")
put("setuid")
os.chmod("setuid", 0o6755)  # noqa: PTH101, S103
os.mkdir("sticky")  # noqa: PTH102
os.chmod("sticky", 0o7777)  # noqa: PTH101, S103
