"""What strangers wrote, made fit to be shown on a terminal or a page."""

from typing import Annotated

from pydantic import AfterValidator

INSTEAD = "\N{REPLACEMENT CHARACTER}"
_SHOWN = frozenset("\n\t")


def tame(text: str) -> str:
    """Return *text* without what moves a cursor, colours, hides or turns round other text.

    It is never longer. A line that was written over, as a progress bar does, becomes several.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c.isprintable() or c in _SHOWN else INSTEAD for c in lines)


Tame = Annotated[str, AfterValidator(tame)]
