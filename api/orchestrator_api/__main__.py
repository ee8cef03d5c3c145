"""Runs the API and its gateway: one process, one event loop, three ports."""

import asyncio
import gc
import logging
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import uvloop

from orchestrator_api.app import create_app
from orchestrator_api.attempts import Attempts
from orchestrator_api.cache import Jobs, Services
from orchestrator_api.canary import Canary
from orchestrator_api.cluster import Cluster
from orchestrator_api.dependencies import Context
from orchestrator_api.gateway import create_gateway
from orchestrator_api.gateway_serving import GatewayProtocol
from orchestrator_api.identity.door import NO_IDENTITY, Door
from orchestrator_api.ids import Ids, highest_in_use
from orchestrator_api.operator import Operator
from orchestrator_api.queue import Queue
from orchestrator_api.serving import server
from orchestrator_api.settings import Settings
from orchestrator_api.submit import Submissions
from orchestrator_api.tls import Certificate
from orchestrator_api.tokens import Tokens
from orchestrator_api.wellness import Wellness
from orchestrator_wire import errors
from orchestrator_wire.events import Events
from orchestrator_wire.kube import Kube
from orchestrator_wire.s3 import Store
from orchestrator_wire.unsigned import PREFIX, takes_unsigned_writes

log = logging.getLogger("orchestrator_api")
T = TypeVar("T")
PAUSE_SECONDS = 1.0
UNSIGNED = (
    "The object store takes writes that nobody signed (CVE-2026-41145): whoever reaches it and "
    "knows the id of a key can replace files. Keep it out of everybody's reach, or use another."
)
REFUSES = (
    "The object store refuses to store a test file, so that uploads will fail, too. Its answer is "
    "in the API's log; objectStore in the values has the key and the encryption that it is given."
)


async def _prepare(store: Store, warnings: list[str]) -> None:
    """Make the bucket and try it, for as long as it takes: the object store may start after us."""
    await _answered(store.make_bucket)
    for test, warning in ((_refuses, REFUSES), (takes_unsigned_writes, UNSIGNED)):
        try:
            failed = await _answered(partial(test, store), final=errors.Refused)
        except errors.StoreError as error:
            log.warning("The object store could not be tried, and is not tried again: %s", error)
            continue
        if failed:
            log.warning("%s", warning)
            warnings.append(warning)


async def _answered(
    call: Callable[[], Awaitable[T]], final: tuple[type[Exception], ...] | type[Exception] = ()
) -> T:
    """Return what *call* returns, asked again while the store is away; raises what is *final*."""
    while True:
        try:
            return await call()
        except final:
            raise
        except errors.StoreError as error:
            log.warning("No object store yet, trying again: %s", error)
            await asyncio.sleep(PAUSE_SECONDS)


async def _refuses(store: Store) -> bool:
    """Tell whether the store refuses an object as we ask for it; raises StoreDown."""
    key = f"{PREFIX}{secrets.token_hex(16)}"
    try:
        await store.put(key, b"signed")
        await store.delete(key)
    except errors.Refused as error:
        log.warning("The object store's answer to a test file: %s", error)
        return True
    return False


async def main() -> None:
    """Serve until told to end."""
    settings = Settings()
    logging.basicConfig(
        level=settings.log_level,
        stream=sys.stdout,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    kube = await Kube.connect()
    # With connections of their own: however many pods fetch their inputs, callers have theirs.
    store, store_of_agents = Store.connect(settings.store), Store.connect(settings.store)
    jobs = Jobs(kube, store, settings.jobs_namespace)
    services = Services(kube, settings.jobs_namespace)
    cluster = Cluster(kube, settings.namespace, settings.jobs_namespace)
    ids = Ids(
        kube, settings.namespace, lambda: highest_in_use(kube, store, settings.jobs_namespace)
    )
    events = Events(kube, settings.jobs_namespace, "orchestrator-api")
    canary = Canary(settings.canary_port)
    await canary.open()
    queue = Queue(kube, settings.jobs_namespace, jobs.live)
    submissions = Submissions(store, cluster, ids, services, queue, settings.callback_hosts)
    operator = Operator(settings.operator_host, settings.operator_port)
    door = Door(settings.identity)
    if door.open:
        log.warning("%s", NO_IDENTITY)
    context = Context(
        store, cluster, jobs, services, submissions, operator, door, Wellness(cluster, store)
    )
    gateway = create_gateway(
        Tokens(kube, settings.jobs_namespace),
        Attempts(cluster, store_of_agents, jobs, services, events),
        canary,
        lambda: all(watched.synced for watched in (jobs.live, services.watched, queue.quotas)),
    )
    background = [
        asyncio.create_task(coroutine)
        for coroutine in (
            jobs.live.run(),
            services.watched.run(),
            queue.quotas.run(),
            _prepare(store, context.warnings),
        )
    ]
    tls = Certificate(settings.tls_directory) if settings.tls_directory else None
    front = server(create_app(context), settings.port, tls)
    servers = (front, server(gateway, settings.gateway_port, protocol=GatewayProtocol))
    if tls:
        background.append(asyncio.create_task(tls.renew(front.config)))

    def end() -> None:
        for one in servers:
            one.should_exit = True

    # What is here by now stays for good; to look through it again and again for what does not took
    # a tenth of a second each time, in which nobody was served.
    gc.collect()
    gc.freeze()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    await asyncio.gather(*(one.serve() for one in servers))
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    await asyncio.gather(kube.close(), store.close(), store_of_agents.close(), canary.close())


if __name__ == "__main__":
    uvloop.run(main())
