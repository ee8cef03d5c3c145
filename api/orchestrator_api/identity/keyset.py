"""Public keys that tokens are signed with, fetched from whoever signs, and kept."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import jwt

log = logging.getLogger(__name__)

# Only signatures that cannot be made with what is public (PyJWT CVE-2022-29217).
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
# A token signed by a key we do not know may mean new keys, or mischief: ask now and then.
REFRESH_SECONDS = 10.0
# When there are none at all, it is asked again so soon.
AGAIN_SECONDS = 1.0
# A key that was withdrawn is believed for no longer than this.
FRESH_SECONDS = 3600.0

# Returns the issuer's name and its key set (RFC 7517).
Fetch = Callable[[], Awaitable[tuple[str, dict[str, Any]]]]


class BadToken(Exception):  # noqa: N818
    """The token is missing, false, expired, or not for us; the message says which."""


class KeySet:
    """The keys of one issuer, by id."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self._clock = fetch, clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = self._fresh_at = float("-inf")
        self._problem: Exception | None = None
        self._turn = asyncio.Lock()
        self.issuer = ""

    async def claims(
        self,
        token: str,
        audience: str | None,
        algorithms: Collection[str] = ALGORITHMS,
        leeway_seconds: float = 0,
    ) -> dict[str, Any]:
        """Return what a token of this issuer says; with no *audience*, for whomever it is.

        Raises BadToken, or what fetching raises when no keys are known yet.
        """
        try:
            key = await self._find(str(jwt.get_unverified_header(token).get("kid", "")))
            return jwt.decode(
                token,
                key,
                algorithms=list(algorithms),
                audience=audience,
                issuer=self.issuer,
                leeway=leeway_seconds,
                options={"require": ["exp", "iss", "aud"], "verify_aud": audience is not None},
            )
        except jwt.PyJWTError as error:
            raise BadToken(f"The token is not valid: {error}.") from error

    async def _find(self, key_id: str) -> jwt.PyJWK:
        if self._wanting(key_id):
            async with self._turn:
                if self._wanting(key_id):
                    await self._refresh()
        if self._problem is not None:
            raise self._problem.with_traceback(None)
        try:
            return self._keys[key_id]
        except KeyError:
            raise BadToken("The token is signed by a key that its issuer does not have.") from None

    def _wanting(self, key_id: str) -> bool:
        now = self._clock()
        if self._problem is not None:
            return now - self._asked_at >= AGAIN_SECONDS
        stale = key_id not in self._keys or now - self._fresh_at >= FRESH_SECONDS
        return stale and now - self._asked_at >= REFRESH_SECONDS

    async def _refresh(self) -> None:
        try:
            self.issuer, found = await self._fetch()
        except Exception as error:
            # Whoever signs may be away for a while; what it signed before holds.
            log.warning("Keys cannot be fetched: %s", error)
            self._problem = None if self._keys else error
            self._asked_at = self._clock()
            return
        self._problem = None
        self._asked_at = self._fresh_at = self._clock()
        self._keys = dict(filter(None, map(_read, found.get("keys", ()))))


def _read(key: dict[str, Any]) -> tuple[str, jwt.PyJWK] | None:
    """Return (id, key), or None for one that no signature of ours can be checked with."""
    if key.get("kty") not in {"RSA", "EC"} or key.get("use", "sig") != "sig" or "kid" not in key:
        return None
    try:
        return str(key["kid"]), jwt.PyJWK(key)
    except (jwt.PyJWTError, ValueError) as error:
        log.warning("A key is left out: %s", error)
        return None
