"""From an upload to a job: the bundle first, then the resource, then the answer.

A failure on the way leaves nothing behind; a 201 is a promise that the job exists.
"""

import logging
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from typing import Any

from orchestrator_api.bundle import Bundle
from orchestrator_api.cache import Services
from orchestrator_api.cluster import Cluster
from orchestrator_api.errors import ApiError, TooSlow
from orchestrator_api.identity.principals import Principal
from orchestrator_api.ids import Ids
from orchestrator_api.pacing import Turns, paced
from orchestrator_api.places import Places, Seat
from orchestrator_api.queue import Queue
from orchestrator_api.upload import Form, drain, receive
from orchestrator_crds import OrchestratorJob
from orchestrator_crds.job import Inputs
from orchestrator_crds.names import INPUTS, job_name, object_key
from orchestrator_wire import errors
from orchestrator_wire.s3 import Store

log = logging.getLogger(__name__)
NAME_TRIES = 20
# How many uploads that are not small are taken in at once; the others wait, unread.
LARGE_AT_ONCE = 8


class PerhapsCreated(errors.Temporary):
    """The answer to the creation was lost: the job may be there without our hearing of it."""


class Submissions:
    """Turns uploads into jobs."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        ids: Ids,
        services: Services,
        queue: Queue,
        callback_hosts: Collection[str] = (),
    ) -> None:
        self._store, self._cluster, self._ids, self._services = store, cluster, ids, services
        self._queue = queue
        self._callback_hosts = callback_hosts
        self._places, self.turns = Places(LARGE_AT_ONCE), Turns()

    async def submit(
        self, known: Principal, caller: str, mark: str, body: AsyncIterator[bytes]
    ) -> OrchestratorJob:
        """Store what *body* holds and create its job; raises ApiError and the wire's errors.

        *caller* is whose share it takes of the places for large uploads, and of our time.
        """
        # Nobody can guess a key, so nobody can name another's bundle.
        key = object_key(secrets.token_hex(16), INPUTS)
        body = self.turns.of(caller, paced(body))
        try:
            spec = await self._take(
                known, self._places.of(caller, known.only_user), (key, mark), body
            )
        except TooSlow:
            raise
        except ApiError:
            with suppress(TooSlow):
                await drain(body)
            raise
        try:
            return await self._create(spec)
        except PerhapsCreated:
            raise  # the bundle stays: the job may need it, and if not, the sweep will know
        except (errors.ClusterError, errors.StoreError):
            await self._discard(key)
            raise

    async def _take(
        self, known: Principal, seat: Seat, where: tuple[str, str], body: AsyncIterator[bytes]
    ) -> dict[str, Any]:
        """Store an upload's files and return the spec of its job; *where* is (key, boundary)."""
        key, mark = where
        async with self._store.upload(key, seat) as upload:
            with Bundle(upload, self._services.largest_upload) as bundle:
                form = Form(bundle, self._services, known, self._callback_hosts)
                seat.fields = form.fields
                await receive(form, mark, body)
                user, service = form.check()
                self._queue.check(service.metadata.name, str(user))
                await bundle.close()
            stored = await upload.finish()
        looked_at = service.spec.script_policy != "Off"
        inputs = Inputs(
            key=key,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            etag=stored.etag,
            files=bundle.listed(),
            file_count=len(bundle.files),
            findings=await form.findings() if looked_at else (),
        )
        spec = {"service": service.metadata.name, "userID": str(user), "inputs": inputs.to_dict()}
        if callback := form.fields.get("callback_url"):
            spec["callbackURL"] = callback
        return spec

    async def _create(self, spec: dict[str, Any]) -> OrchestratorJob:
        for _ in range(NAME_TRIES):
            number = await self._ids.take()
            try:
                return await self._cluster.create(job_name(number), {"id": number, **spec})
            except errors.AlreadyExists:
                # The counter was lost or put back; the numbers in use are skipped one by one.
                log.warning("Job number %d is in use already; taking the next.", number)
            except errors.Unreachable:
                raise
            except errors.Temporary as error:
                raise PerhapsCreated(str(error)) from error
        raise errors.Temporary("Could not find a free job number.")

    async def _discard(self, key: str) -> None:
        try:
            await self._store.delete(key)
        except errors.StoreError as error:
            log.warning("%s is left to the sweep: %s", key, error)
