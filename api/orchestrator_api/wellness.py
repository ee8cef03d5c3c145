"""Whether what the API rests on can be reached: looked at once for all who ask at a time."""

import asyncio
import logging
import time

from orchestrator_api.cluster import Cluster
from orchestrator_wire import errors
from orchestrator_wire.s3 import Store

log = logging.getLogger(__name__)
# Nobody needs a key to ask, so that it must cost nothing to be asked often.
KEPT_SECONDS = 1.0


class Wellness:
    """What is wrong with Kubernetes and the object store, by a look that is hardly a second old."""

    def __init__(self, cluster: Cluster, store: Store) -> None:
        self._cluster, self._store = cluster, store
        self._look: asyncio.Task[str] | None = None
        self._begun = 0.0

    async def problem(self) -> str:
        """Return what cannot be reached, or an empty text."""
        look, old = self._look, time.monotonic() - self._begun >= KEPT_SECONDS
        if look is None or (look.done() and old):
            look = self._look = asyncio.create_task(self._looked())
            self._begun = time.monotonic()
        # Who goes away while it is looked at takes nobody's answer along.
        return await asyncio.shield(look)

    async def _looked(self) -> str:
        problem = ""
        try:
            await self._cluster.check()
        except errors.ClusterError as error:
            log.warning("Kubernetes: %s", error)
            problem = "Kubernetes cannot be reached"
        try:
            await self._store.check()
        except errors.StoreError as error:
            log.warning("Object store: %s", error)
            problem = problem or "the object store cannot be reached"
        return problem
