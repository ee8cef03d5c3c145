"""Proof that the job's network policy is in force, before any of the user's code runs.

A policy takes a moment to reach a new pod. The canary is a port of the gateway that nothing but
that policy closes: while it can be reached, the pod is not yet cut off.
"""

import socket
import time

from orchestrator_agent.gateway import Gateway

CONSECUTIVE = 3
CONNECT_SECONDS = 0.25
PAUSE_SECONDS = 0.02
PATIENCE_SECONDS = 30.0


def isolated(gateway: Gateway, patience: float = PATIENCE_SECONDS) -> bool:
    """Return whether the canary was out of reach three times in a row while it listened.

    Asks for up to *patience* seconds. A canary that does not listen proves nothing, so then the
    answer is False. Raises Unavailable when the gateway cannot say.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        port = int(gateway.get("/canary")["port"])
        if not any(_reachable(gateway.host, port) for _ in range(CONSECUTIVE)):
            return bool(gateway.get("/canary")["listening"])
        time.sleep(PAUSE_SECONDS)
    return False


def _reachable(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
