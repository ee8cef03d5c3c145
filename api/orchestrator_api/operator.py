"""Asking the operator why a job waits.

It may be away, and of two during a rollout only one knows; so no answer is an answer, too.
"""

import asyncio
import logging
import socket
from collections import Counter

import aiohttp
from pydantic import ValidationError

from orchestrator_crds.explanation import Explanation
from orchestrator_wire.kube import now

log = logging.getLogger(__name__)
SECONDS = 5.0
CONNECT_SECONDS = 1.0
# How many may ask at once; one caller of them, and one who is a user.
AT_ONCE, ONES_AT_ONCE, USERS_AT_ONCE = 8, 6, 2


class Operator:
    """The operator's pods behind a name that stands for all of them."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._under_way: Counter[str] = Counter()

    async def explain(
        self, name: str, caller: str, *, only_user: bool = False
    ) -> Explanation | None:
        """Return why the job *name* waits, or None when nobody can tell *caller* now."""
        most = USERS_AT_ONCE if only_user else ONES_AT_ONCE
        if self._under_way[caller] >= most or self._under_way.total() >= AT_ONCE:
            return None
        self._under_way[caller] += 1
        timeout = aiohttp.ClientTimeout(total=SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            async with (
                asyncio.timeout(SECONDS),
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            ):
                for address in await self._addresses():
                    found = await _ask(session, f"http://{address}:{self._port}/explain/{name}")
                    if found is not None:
                        return found
        except (OSError, TimeoutError) as error:
            log.warning("The operator cannot be asked: %r", error)
        finally:
            self._under_way -= Counter({caller: 1})
        return None

    async def _addresses(self) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(
            self._host, self._port, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
        return sorted({str(address[0]) for *_, address in found})


async def _ask(session: aiohttp.ClientSession, url: str) -> Explanation | None:
    try:
        async with session.get(url) as response:
            if response.status == 200:
                return Explanation.model_validate_json(await response.read())
            if response.status == 404:
                # It knows: the job does not wait for its turn, but for instance for its next try.
                return Explanation(as_of=now())
    except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
        log.warning("GET %s: %r", url, error)
    return None
