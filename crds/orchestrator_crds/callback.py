"""Telling a portal that a job has ended: whom, what, and how it knows that it was us.

The headers and the signature are those of Standard Webhooks (standardwebhooks.com, version 1), so
that a portal can check them with a library of its language.
"""

import base64
import hmac
import json
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from orchestrator_crds.job import OrchestratorJob
from orchestrator_crds.meta import CALLBACK_PATTERN, LONGEST_URL

_HOST = re.compile(r"[a-z0-9._:-]+")


def allowed(url: str, hosts: Collection[str]) -> bool:
    """Return whether *url* may be called.

    *hosts* has names such as `portal.example.org`, with a port if it is not 443, or
    `*.example.org`; these are called by https alone. `http://portal.internal:8080` allows http.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return False
    # What else a host may be spelled with, readers take differently: `evil.org\\.example.org`.
    if not _HOST.fullmatch(host):
        return False
    if parts.scheme not in {"http", "https"} or parts.username is not None:
        return False
    if len(url) > LONGEST_URL or not CALLBACK_PATTERN.fullmatch(url):
        return False  # the cluster would refuse the job
    default = 443 if parts.scheme == "https" else 80
    names = {host, *(f"*.{host[dot + 1 :]}" for dot, c in enumerate(host) if c == ".")}
    ports = {f":{port or default}"} | ({""} if port in {None, default} else set())
    prefix = "http://" if parts.scheme == "http" else ""
    wanted = {f"{prefix}{name}{suffix}" for name in names for suffix in ports}
    return not wanted.isdisjoint(entry.lower() for entry in hosts)


def message(job: OrchestratorJob) -> bytes:
    """Return the JSON that is sent when *job* has ended."""
    status = job.status
    return json.dumps(
        {
            "type": "job.ended",
            "timestamp": status.finished_at,
            "data": {
                "id": job.spec.id,
                "name": job.metadata.name,
                "service": job.spec.service,
                "userID": job.spec.user_id,
                "status": str(status.phase),
                "reason": status.reason,
                "message": status.message,
                "exitCode": status.exit_code,
            },
        },
        separators=(",", ":"),
    ).encode()


def headers(job: OrchestratorJob, body: bytes, key: bytes, timestamp: int) -> dict[str, str]:
    """Return the headers that go with *body*; *timestamp* is in seconds since 1970.

    The id is the same at every try, so that a portal can tell a repetition.
    """
    signed = b".".join((job.metadata.uid.encode(), str(timestamp).encode(), body))
    signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return {
        "Content-Type": "application/json",
        "webhook-id": job.metadata.uid,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }


def key_of(secret: str) -> bytes:
    """Return the key that a secret stands for: whsec_BASE64, or any other text as it is."""
    prefix = "whsec_"
    if secret.startswith(prefix):
        return base64.b64decode(secret.removeprefix(prefix))
    return secret.encode()
