"""Who a pod is: its service-account token, checked against the cluster's keys without asking."""

import time
from dataclasses import dataclass
from typing import Any

import jwt

from orchestrator_crds.names import AUDIENCE, SERVICE_ACCOUNT
from orchestrator_wire.kube import Kube

ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
# A token signed by a key we do not know may mean new keys, or mischief: ask now and then.
REFRESH_SECONDS = 10.0


class BadToken(Exception):  # noqa: N818
    """The token is missing, false, expired, or not for us; the message says which."""


@dataclass(frozen=True)
class Caller:
    """The pod that a token was made for."""

    pod: str
    uid: str
    node: str


class Tokens:
    """Checks tokens of pods in one namespace."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace
        self._keys: dict[str, jwt.PyJWK] = {}
        self._issuer = ""
        self._asked_at = -REFRESH_SECONDS

    async def verify(self, authorization: str) -> Caller:
        """Return whose token an Authorization header holds; raises BadToken or ClusterError."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise BadToken("There is no bearer token.")
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=AUDIENCE,
                issuer=self._issuer,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise BadToken(f"The token is not valid: {error}.") from error
        return self._caller(claims)

    def _caller(self, claims: dict[str, Any]) -> Caller:
        bound = claims.get("kubernetes.io") or {}
        pod = bound.get("pod") or {}
        account = (bound.get("serviceaccount") or {}).get("name")
        ours = bound.get("namespace") == self._namespace and account == SERVICE_ACCOUNT
        if not ours or not pod.get("name") or not pod.get("uid"):
            raise BadToken("The token is not bound to a job's pod.")
        node = (bound.get("node") or {}).get("name", "")
        return Caller(pod=str(pod["name"]), uid=str(pod["uid"]), node=str(node))

    async def _key(self, key_id: str) -> jwt.PyJWK:
        if key_id not in self._keys and time.monotonic() - self._asked_at >= REFRESH_SECONDS:
            found = await self._kube.request("GET", "/openid/v1/jwks")
            settings = await self._kube.request("GET", "/.well-known/openid-configuration")
            self._keys = {k["kid"]: jwt.PyJWK(k) for k in found.get("keys", ())}
            self._issuer = settings["issuer"]
            self._asked_at = time.monotonic()
        try:
            return self._keys[key_id]
        except KeyError:
            raise BadToken("The token is signed by a key that is not the cluster's.") from None
