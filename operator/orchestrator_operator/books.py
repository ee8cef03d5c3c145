"""What users ran lately, and how long jobs take, kept in the object store across restarts.

A killed operator loses what it had not written yet, a minute of it at most.
"""

import asyncio
import logging

from orchestrator_operator.admit import Admission
from orchestrator_operator.bundles import Bundles
from orchestrator_operator.core.durations import Durations
from orchestrator_operator.core.fairshare import Ledger
from orchestrator_wire import errors

log = logging.getLogger(__name__)
EVERY_SECONDS = 60.0
PAUSE_SECONDS = 5.0
# What is worth a write when it changes, and what it is when nothing is known.
_EMPTY: dict[str, object] = {"means": [], "durations": {}}


class Books:
    """Reads the ledger once, and writes it every minute."""

    def __init__(self, bundles: Bundles, admission: Admission) -> None:
        self._bundles, self._admission = bundles, admission
        self._written: dict[str, object] = {}

    async def forever(self) -> None:
        """Read, then write now and then. Never writes what would replace unread books."""
        while True:
            if await self.read():
                break
            await asyncio.sleep(PAUSE_SECONDS)
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self.write()

    async def read(self) -> bool:
        """Add what was written before to what has been booked since; returns whether it was read.

        Admission does not wait for it: until then turns are given by what runs now.
        """
        try:
            found = await self._bundles.books()
        except errors.StoreError as error:
            log.warning("What users ran lately cannot be read yet: %s", error)
            return False
        if found is None:
            return True
        try:
            ledger = Ledger.from_dict(found)
        except (ValueError, TypeError, KeyError) as error:
            log.warning("What users ran lately is damaged, and begins anew: %s", error)
            return True
        try:
            durations = Durations.from_dict(found.get("durations") or {})
        except (ValueError, TypeError, AttributeError) as error:
            log.warning("How long jobs take is damaged, and begins anew: %s", error)
            durations = Durations()
        self._admission.absorb(ledger, durations)
        return True

    async def write(self) -> None:
        """Write the ledger and the durations, if there is anything in them that has changed."""
        durations = self._admission.durations.to_dict()
        data = {**self._admission.ledger.to_dict(), "durations": durations}
        if all(data[key] == self._written.get(key, empty) for key, empty in _EMPTY.items()):
            return
        try:
            await self._bundles.keep_books(data)
        except errors.StoreError as error:
            log.warning("What users ran lately is written later: %s", error)
        else:
            self._written = data
