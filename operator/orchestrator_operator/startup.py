"""Start, lead, end. The process owns its own exit: kopf can go blind without an error, and its
own way out can hang, so its tasks are waited for here and the process ends by itself.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from typing import Any

import kopf
from aiohttp import web

from orchestrator_crds.callback import key_of
from orchestrator_crds.lean import slim
from orchestrator_operator import handlers
from orchestrator_operator.act import Actor
from orchestrator_operator.books import Books
from orchestrator_operator.bundles import Bundles
from orchestrator_operator.callbacks import LOOK_EVERY_SECONDS, Callbacks
from orchestrator_operator.cluster.lease import Lease
from orchestrator_operator.cluster.writes import Writer
from orchestrator_operator.core.podspec import Surroundings
from orchestrator_operator.egress import Egress
from orchestrator_operator.ended import Ended
from orchestrator_operator.enquiries import Enquiries
from orchestrator_operator.mirror import JOBS, Mirror
from orchestrator_operator.reconcile import Decider
from orchestrator_operator.relist import Relist
from orchestrator_operator.settings import Settings, wrapper_text
from orchestrator_operator.sweep import Sweep
from orchestrator_wire import errors
from orchestrator_wire.events import Events
from orchestrator_wire.kube import Kube
from orchestrator_wire.s3 import Store

log = logging.getLogger("orchestrator_operator")
FAILED = 70
EGRESS_SECONDS = 1.0


async def main() -> None:
    """Run until SIGTERM, or until something ends that must not; then end the process."""
    settings = Settings()
    logging.basicConfig(
        level=settings.log_level,
        stream=sys.stdout,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    told_to_end = asyncio.Event()
    catch_signals(told_to_end)
    await serve_probes(settings.probe_port)
    enquiries = Enquiries()
    await serve(enquiries.app(), settings.enquiry_port)
    kube = await Kube.connect()
    # What is here by now stays for good: to look through it for what does not stops everything for
    # a tenth of a second each time.
    gc.collect()
    gc.freeze()
    lease = Lease(kube, settings.namespace, settings.pod_uid, settings.lease_seconds)
    leading = asyncio.create_task(lead(settings, kube, lease, told_to_end, enquiries))
    ended = asyncio.create_task(told_to_end.wait())
    await asyncio.wait({leading, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not told_to_end.is_set():
        log.error("Ending, to be restarted: %s", leading.exception())
        end(FAILED)
    leading.cancel()
    await asyncio.wait({leading}, timeout=5.0)
    await lease.release()
    end(0)


def end(code: int) -> None:
    """End the process now, whatever kopf's tasks are doing."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def catch_signals(told_to_end: asyncio.Event) -> None:
    """Have SIGTERM and SIGINT set *told_to_end*; kopf takes both for itself when it starts."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_end.set)


async def serve_probes(port: int) -> None:
    """Answer liveness and readiness. A standby is ready: else a rollout would never end."""

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.add_routes([web.get("/livez", alive), web.get("/readyz", alive)])
    await serve(app, port)


async def serve(app: web.Application, port: int) -> None:
    """Serve *app* for as long as the process lives."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()


async def lead(
    settings: Settings,
    kube: Kube,
    lease: Lease,
    told_to_end: asyncio.Event,
    enquiries: Enquiries,
) -> None:
    """Become the leader, then watch and decide until something ends that must not."""
    await lease.acquire()
    log.info("Leading, epoch %d, as %s.", lease.epoch, settings.pod_name)
    mirror = Mirror()
    writer = Writer(kube, lease, settings.jobs_namespace)
    events = Events(kube, settings.jobs_namespace, "orchestrator-operator")
    actor = Actor(mirror, writer, lease, await surroundings(settings), events)
    decider = Decider(actor, lease)
    relist = Relist(kube, mirror, settings.jobs_namespace)
    bundles = Bundles(Store.connect(settings.store))
    callbacks = Callbacks(
        kube,
        writer,
        settings.jobs_namespace,
        settings.callback_hosts,
        signing_key(settings),
    )
    ended = Ended(bundles, kube, settings.jobs_namespace, mirror.service, callbacks.add)
    sweep = Sweep(bundles, kube, writer, settings.jobs_namespace, lambda: mirror.services)

    def seen(plural: str, kind: str | None, body: dict[str, Any]) -> None:
        if plural == JOBS:
            body = slim(body)
        relist.delivered(plural, body)
        decider.seen(plural, kind, body)
        if plural == JOBS and kind == "DELETED":
            ended.left(body)

    own = {
        asyncio.create_task(lease.keep(), name="lease"),
        asyncio.create_task(decider.run(), name="decider"),
        asyncio.create_task(ended.watch_deletions(), name="deletions"),
        asyncio.create_task(sweep.forever(settings.sweep_seconds), name="sweep"),
    }
    await first_list(relist)
    books = Books(bundles, decider.admission)
    own.add(asyncio.create_task(books.forever(), name="books"))
    own.add(asyncio.create_task(callbacks.forever(LOOK_EVERY_SECONDS), name="callbacks"))
    egress = Egress(kube, lease, settings.jobs_namespace, lambda: mirror.services)
    own.add(asyncio.create_task(egress.forever(EGRESS_SECONDS), name="egress"))
    decider.synced = True
    decider.look_again()
    enquiries.open(decider)
    own.add(
        asyncio.create_task(
            relist.forever(settings.relist_seconds, decider.look_again), name="relist"
        )
    )
    try:
        await watch(settings, seen, own, told_to_end)
    finally:
        for task in own:
            task.cancel()
        await callbacks.close()
        await asyncio.wait_for(decider.drain(), timeout=3.0)


def signing_key(settings: Settings) -> bytes:
    """Return what callbacks are signed with; raises ValueError with a sentence for no key."""
    try:
        key = key_of(settings.callback_key)
    except ValueError as error:
        raise ValueError(
            f"signingKey in the Secret callbacks.existingSecret is not whsec_BASE64: {error}"
        ) from error
    if settings.callback_hosts and not key:
        raise ValueError("callbacks.allowedHosts needs a signingKey in callbacks.existingSecret")
    return key


async def first_list(relist: Relist) -> None:
    """List everything once; decisions wait for it."""
    while True:
        try:
            await relist.once()
        except (errors.Temporary, errors.NotFound) as error:
            log.warning("Could not list; trying again: %s", error)
            await asyncio.sleep(1.0)
        else:
            return


async def surroundings(settings: Settings) -> Surroundings:
    """Look up the gateway's address, which pods without a name service are given instead."""
    while True:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                settings.gateway_host,
                settings.gateway_port,
                family=socket.AF_INET,
                type=socket.SOCK_STREAM,
            )
        except OSError as error:
            log.warning("Cannot look up %s, trying again: %s", settings.gateway_host, error)
            await asyncio.sleep(1.0)
            continue
        address = found[0][4][0]
        return Surroundings(
            agent_image=settings.agent_image,
            agent_pull_policy=settings.agent_pull_policy,
            gateway_url=f"http://{address}:{settings.gateway_port}",
            wrapper=wrapper_text(),
        )


async def watch(
    settings: Settings,
    seen: handlers.Seen,
    own: set[asyncio.Task[None]],
    told_to_end: asyncio.Event,
) -> None:
    """Run kopf's watchers beside *own*; returns or raises when any of them ends."""
    kopf_settings = handlers.settings()
    stop = asyncio.Event()
    # kopf cancels every task that is not named to it as somebody else's.
    ours = asyncio.all_tasks()
    tasks = set(
        await kopf.spawn_tasks(
            registry=handlers.registry(seen, kopf_settings),
            settings=kopf_settings,
            namespaces=[settings.jobs_namespace],
            standalone=True,
            stop_flag=stop,
        )
    )
    catch_signals(told_to_end)
    runner = asyncio.create_task(kopf.run_tasks(tasks, ignored=ours), name="kopf")
    try:
        done, _ = await asyncio.wait({*tasks, *own, runner}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
    for task in done:
        if not task.cancelled() and task.exception() is not None:
            raise RuntimeError(
                f"{task.get_name()} ended: {task.exception()!r}"
            ) from task.exception()
    raise RuntimeError(f"{', '.join(t.get_name() for t in done)} ended")
