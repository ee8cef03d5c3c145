"""The door: a request's credential → the principal it stands for, before anything else is read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from pydantic import Field

from orchestrator_api.errors import TooManyRequests, Unauthorized, Unavailable
from orchestrator_api.identity.api_keys import PREFIX, ApiKeys
from orchestrator_api.identity.keyset import BadToken
from orchestrator_api.identity.oidc import Issuer, IssuerAway, Oidc
from orchestrator_api.identity.principals import ANYBODY, Principal, Strict
from orchestrator_api.identity.rates import NO_LIMITS, Most, Rates

# How many jobs that are not known here are looked up at once for a caller who is a user, and for
# one who speaks for many; and how many may be wanted at once.
LOOKUPS_OF_A_USER, LOOKUPS_OF_MANY, MOST_LOOKUPS = 2, 8, 64
NO_IDENTITY = (
    "Nobody is asked who they are: whoever reaches this port can submit, read and stop every job. "
    "Set identity.apiKeys or identity.oidc, or keep the port behind your portal."
)


class IdentitySettings(Strict):
    """How callers are known. Without keys and issuer, they are not: as in the old system."""

    api_keys_file: str = Field(default="", description="Path of the file of API keys.")
    oidc: Issuer | None = None
    limits: Most = Most()


class _Lookups:
    """A caller's, under way and waiting."""

    def __init__(self, known: Principal) -> None:
        self.asked = 0
        self.free = asyncio.Semaphore(LOOKUPS_OF_A_USER if known.only_user else LOOKUPS_OF_MANY)


class Door:
    """Knows callers by API key, by token, or not at all."""

    def __init__(self, settings: IdentitySettings) -> None:
        """Read the keys; raises BadKeyFile or OSError."""
        path = settings.api_keys_file
        self._keys = ApiKeys(Path(path)) if path else None
        self._oidc = Oidc(settings.oidc) if settings.oidc else None
        self.rates = Rates(NO_LIMITS if self.open else settings.limits)
        self._looking: WeakValueDictionary[str, _Lookups] = WeakValueDictionary()

    @property
    def open(self) -> bool:
        """Return whether nobody is asked who they are."""
        return self._keys is None and self._oidc is None

    def caller(self, known: Principal, address: str) -> str:
        """Return whose shares a request takes: where nobody is asked, those of its address."""
        return address if self.open else known.name

    @asynccontextmanager
    async def looking(self, known: Principal) -> AsyncIterator[None]:
        """Hold one of a caller's few places for looking up what is not known here.

        That costs the store and Kubernetes a request each, so all of a second's at once would be
        felt by everybody. Raises TooManyRequests for more than may wait.
        """
        if self.open:
            yield
            return
        places = self._looking.setdefault(known.name, _Lookups(known))
        if places.asked >= MOST_LOOKUPS:
            raise TooManyRequests("Too many jobs are being looked up for you; ask less often.")
        places.asked += 1
        try:
            async with places.free:
                yield
        finally:
            places.asked -= 1

    async def admit(self, authorization: str) -> Principal:
        """Return who calls; raises Unauthorized or Unavailable."""
        if self.open:
            return ANYBODY
        scheme, _, credential = authorization.partition(" ")
        if scheme.lower() != "bearer" or not credential.strip():
            raise Unauthorized(
                "Say who you are: send Authorization: Bearer with your key or token."
            )
        return await self._find(credential.strip())

    async def _find(self, credential: str) -> Principal:
        if credential.startswith(PREFIX) or self._oidc is None:
            found = self._keys.find(credential) if self._keys else None
            if found is None:
                raise Unauthorized("This API key is not known, or not any more.")
            return found
        try:
            return await self._oidc.find(credential)
        except BadToken as error:
            raise Unauthorized(str(error)) from error
        except IssuerAway as error:
            raise Unavailable("Tokens cannot be checked now; try again later.") from error
