"""Proof that the job's network policy is in force, before any of the user's code runs.

A policy takes a moment to reach a new pod. The canary is a port of the gateway that nothing but
that policy closes: while it can be reached, the pod is not yet cut off. Of several replicas, the
one that was dialled is asked whether its canary listens: it may be on its way out.
"""

import contextlib
import math
import socket
import time
from collections.abc import Callable
from typing import Any

from orchestrator_agent.gateway import Gateway

CONNECT_SECONDS = 0.25
# It looks again after a tenth of the time that it has looked for already.
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.5
PATIENCE_SECONDS = 30.0
# An image may take this long to come; then it is a network that nobody closes.
LONGEST_SECONDS = 240.0
# How often to ask until the same replica answers.
ASKS = 20


def isolated(
    gateway: Gateway, awaited: Callable[[], bool], patience: float = PATIENCE_SECONDS
) -> bool:
    """Return whether the canary was out of reach three times in a row while it listened.

    Dials it by the replica's address and by the Service's, until *patience* seconds after the job
    first *awaited* the answer: on a crowded node a pod's address, which its policy is made of, is
    told half a minute after its first container, with the last one. A canary that does not listen
    proves nothing, so then the answer is False. Raises Unavailable when the gateway cannot say.
    """
    began, deadline = time.monotonic(), math.inf
    while (now := time.monotonic()) < min(began + LONGEST_SECONDS, deadline):
        if deadline == math.inf and awaited():
            deadline = now + patience
        canary = gateway.get("/canary")
        host = _host(gateway, canary)
        if not any(_reachable(h, int(canary["port"])) for h in (host, gateway.host, host)):
            for _ in range(ASKS):
                again = gateway.get("/canary")
                if _host(gateway, again) == host:
                    return bool(again["listening"])
        pause = (time.monotonic() - began) / 10
        time.sleep(min(max(pause, PAUSE_SECONDS), LONGEST_PAUSE_SECONDS))
    return False


def _host(gateway: Gateway, canary: dict[str, Any]) -> str:
    """Return the replica's own address, unless dialling that would prove nothing."""
    host = str(canary.get("host"))
    with contextlib.suppress(OSError):
        socket.inet_pton(socket.AF_INET, host)
        if not host.startswith("127."):
            return host
    return gateway.host


def _reachable(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
