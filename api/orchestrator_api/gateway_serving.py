"""The HTTP server before the gateway, which a job may reach, too, and needs no token to be refused.

It shares its agent's address, so an address has so many connections and requests.
"""

import asyncio
from collections import Counter
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from orchestrator_api.allowance import Allowance
from orchestrator_api.serving import Doubtful, Protocol

# Connections of one address: an agent has four at most.
MOST_OF_ONE = 128
# And requests: an agent has one in two seconds. Who asks more often is read later.
ONES_REQUESTS_PER_SECOND, ONES_BURST = 50.0, 200
# Who is as much too early as that is not waited for any longer; to come anew costs us more.
MOST_EARLY_SECONDS = 30.0
# Of whom that is remembered.
MOST_ADDRESSES = 50_000


class GatewayProtocol(Protocol):
    """One connection of an agent, whose results may be refused after gigabytes: it reads on."""

    discards = None
    # What is read with the one in front of it cannot be read later; and no agent does that.
    takes_ahead = False
    # Of each server: connections of an address, and its requests.
    _open: ClassVar[WeakKeyDictionary[Any, Counter[str]]] = WeakKeyDictionary()
    _allowances: ClassVar[WeakKeyDictionary[Any, Allowance]] = WeakKeyDictionary()
    _resting: asyncio.TimerHandle | None = None
    _too_early = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and close it where its address has too many."""
        super().connection_made(transport)
        if self._count(1) > MOST_OF_ONE:
            transport.abort()
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        self._count(-1)
        if self._resting is not None:
            self._resting.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Count a request."""
        super().on_message_begin()
        if self._requests.owed(self._address) > MOST_EARLY_SECONDS:
            self._too_early = True
            raise Doubtful  # so that the parser stops
        self._requests.spend(self._address)

    def data_received(self, data: bytes) -> None:
        """Take the next bytes, and no more for a while from who asks too often."""
        super().data_received(data)
        self._rest()

    def on_response_complete(self) -> None:
        """Read on, which uvicorn has just begun, only when it is time to."""
        super().on_response_complete()
        self._rest()

    def send_400_response(self, msg: str) -> None:
        """End the connection of who asks too early without a word: an agent then asks again."""
        if self._too_early:
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _rest(self) -> None:
        if not self._in_head:
            return  # how fast a body is read is its reader's to say
        seconds = self._requests.owed(self._address)
        if not seconds or self.transport.is_closing():
            return
        self.flow.pause_reading()
        if self._resting is None:
            self._resting = self.loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = None
        if self._in_head:
            self._read_on()

    def _count(self, more: int) -> int:
        counts = self._open.setdefault(self.server_state, Counter())
        counts[self._address] += more
        if not (found := counts[self._address]):
            del counts[self._address]
        return found

    @property
    def _requests(self) -> Allowance:
        found = self._allowances.get(self.server_state)
        return found or self._allowances.setdefault(
            self.server_state,
            Allowance(ONES_REQUESTS_PER_SECOND, ONES_BURST, remembered=MOST_ADDRESSES),
        )

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""
