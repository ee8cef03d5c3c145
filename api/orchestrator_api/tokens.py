"""Who a pod is: its service-account token, checked against the cluster's keys without asking."""

from dataclasses import dataclass
from typing import Any

from orchestrator_api.identity.keyset import BadToken, KeySet
from orchestrator_crds import names
from orchestrator_crds.names import AUDIENCE, SERVICE_ACCOUNT
from orchestrator_wire.kube import Kube


@dataclass(frozen=True)
class Caller:
    """The pod that a token was made for, and the job that it was made for."""

    pod: str
    uid: str
    node: str
    job_uid: str


class Tokens:
    """Checks tokens of pods in one namespace."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace
        self._keys = KeySet(self._fetch)

    async def verify(self, authorization: str) -> Caller:
        """Return whose token an Authorization header holds; raises BadToken or ClusterError."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise BadToken("There is no bearer token.")
        return self._caller(await self._keys.claims(token, None))

    def _caller(self, claims: dict[str, Any]) -> Caller:
        # Exactly one: a token that is for others as well may be known to them.
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        job_uid = str(audience[0]).removeprefix(AUDIENCE) if len(audience) == 1 else ""
        if not job_uid or names.audience(job_uid) != audience[0]:
            raise BadToken("The token is not for a job's pod to speak to the gateway.")
        bound = claims.get("kubernetes.io") or {}
        pod = bound.get("pod") or {}
        account = (bound.get("serviceaccount") or {}).get("name")
        ours = bound.get("namespace") == self._namespace and account == SERVICE_ACCOUNT
        if not ours or not pod.get("name") or not pod.get("uid"):
            raise BadToken("The token is not bound to a job's pod.")
        node = (bound.get("node") or {}).get("name", "")
        return Caller(str(pod["name"]), str(pod["uid"]), str(node), job_uid)

    async def _fetch(self) -> tuple[str, dict[str, Any]]:
        keys = await self._kube.request("GET", "/openid/v1/jwks")
        settings = await self._kube.request("GET", "/.well-known/openid-configuration")
        return str(settings["issuer"]), keys
