"""Callers with tokens of an OpenID Connect issuer: signed JWTs, checked without asking it."""

from typing import Any, Literal

import aiohttp
from pydantic import Field

from orchestrator_api.identity.keyset import BadToken, KeySet
from orchestrator_api.identity.principals import Grant, Principal, Strict, administrator, user

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
LEEWAY_SECONDS = 30
LONGEST_TOKEN = 16 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=5)


class Issuer(Strict):
    """The issuer that is believed, and what its tokens' claims mean."""

    issuer: str = Field(pattern="^https?://", description="As in the tokens' `iss`.")
    audience: str = Field(min_length=1, description="Must be among the tokens' `aud`.")
    algorithms: tuple[Algorithm, ...] = Field(default=("RS256", "ES256"), min_length=1)
    user_claim: str = Field(default="sub", min_length=1, description="The claim with the userID.")
    roles_claim: str = Field(default="", description="The claim with roles or groups.")
    administrators: tuple[str, ...] = Field(
        default=(), description="Values of the roles' claim that make an administrator."
    )
    portals: dict[str, Grant] = Field(
        default_factory=dict, description="Value of the roles' claim → what it may act for."
    )


class IssuerAway(Exception):  # noqa: N818
    """The issuer's keys cannot be had."""


class Oidc:
    """Checks tokens of one issuer."""

    def __init__(self, settings: Issuer) -> None:
        self._settings = settings
        self._keys = KeySet(self._fetch)

    async def find(self, token: str) -> Principal:
        """Return whom *token* stands for; raises BadToken or IssuerAway."""
        if len(token) > LONGEST_TOKEN:
            raise BadToken("The token is too long.")
        settings = self._settings
        claims = await self._keys.claims(
            token, settings.audience, settings.algorithms, LEEWAY_SECONDS
        )
        return self._principal(claims)

    def _principal(self, claims: dict[str, Any]) -> Principal:
        settings = self._settings
        name = claims.get(settings.user_claim)
        if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
            raise BadToken(f"The token has no claim {settings.user_claim} that names a user.")
        roles = claims.get(settings.roles_claim) if settings.roles_claim else None
        listed = roles if isinstance(roles, list) else [roles]
        held = {role for role in listed if isinstance(role, str)}
        label = f"oidc:{name}"
        if held & set(settings.administrators):
            return administrator(label)
        grants = [grant for role, grant in sorted(settings.portals.items()) if role in held]
        if len(grants) > 1:
            raise BadToken("The token has the roles of more than one portal.")
        for grant in grants:
            return grant.principal(label)
        return user(label, str(name))

    async def _fetch(self) -> tuple[str, dict[str, Any]]:
        issuer = self._settings.issuer
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            about = await _get(session, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if about.get("issuer") != issuer:
                raise IssuerAway(f"{issuer} says that it is {about.get('issuer')!r}.")
            return issuer, await _get(session, str(about.get("jwks_uri", "")))


async def _get(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """Return the JSON object at *url*; raises IssuerAway."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            response.raise_for_status()
            found = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise IssuerAway(f"{url} cannot be read: {error!r}") from error
    if not isinstance(found, dict):
        raise IssuerAway(f"{url} does not answer with an object.")
    return found
