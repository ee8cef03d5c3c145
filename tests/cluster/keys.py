"""Callers with API keys, and a door that asks for them."""

import base64
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import yaml

from local.paths import NAMESPACE
from orchestrator_api.identity.api_keys import PREFIX, hashed
from tests.cluster.place import Place, until

Callers = Mapping[str, Mapping[str, Any]]


def a_secret(place: Place, name: str, kind: str, **data: bytes) -> None:
    """Make or change a Secret; `_` in a key stands for a dot."""
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "type": kind,
        "data": {key.replace("_", "."): base64.b64encode(v).decode() for key, v in data.items()},
    }
    place.kubectl("apply", f"--namespace={NAMESPACE}", "--filename=-", stdin=json.dumps(body))


def key(name: str) -> str:
    """Return the API key of somebody, which tests know by heart."""
    return f"{PREFIX}{name}"


def bearer(name: str) -> dict[str, str]:
    """Return the header by which somebody calls; none for nobody."""
    return {"Authorization": f"Bearer {key(name)}"} if name else {}


def give(place: Place, secret: str, callers: Callers) -> None:
    """Write who has a key, and what each may do, into a Secret."""
    found = {name: {"sha256": [hashed(key(name))], **role} for name, role in callers.items()}
    a_secret(place, secret, "Opaque", keys_yaml=yaml.safe_dump(found).encode())


@contextmanager
def asked(
    place: Place,
    secret: str,
    callers: Callers,
    *settings: str,
    door: str = "",
    trust: ssl.SSLContext | None = None,
) -> Iterator[None]:
    """Have the door ask for keys while the block runs."""
    give(place, secret, callers)

    def greeted() -> bool:
        # For a moment yet, the replica before answers, or none.
        with suppress(httpx2.TransportError):
            path = f"{door or place.front}/download/1"
            return httpx2.get(path, verify=trust or True, timeout=10).status_code == 401
        return False

    try:
        with place.configured(f"identity.apiKeys.existingSecret={secret}", *settings):
            until(greeted, "callers are asked for keys")
            yield
    finally:
        place.kubectl("delete", "secret", secret, f"--namespace={NAMESPACE}")
