"""Every kopf handler: take what was seen, wake the decider, return.

kopf is used as a watcher only: `on.event` handlers, a session that refuses to write, and storages
that store nothing, so it never annotates, finalizes or patches our objects.
"""

import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import kopf

from orchestrator_crds import GROUP, VERSION, labels
from orchestrator_crds.lifecycle import LIVE_SELECTOR
from orchestrator_operator.mirror import ADMINISTERED, JOBS, NODES, PODS

log = logging.getLogger(__name__)

Seen = Callable[[str, str | None, dict[str, Any]], None]


class _NoDiff(kopf.DiffBaseStorage):
    """Remembers nothing: without it kopf copies and compares every object at every event."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept."""


class _NoProgress(kopf.ProgressStorage):
    """Remembers nothing: handlers of events have no progress."""

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept."""

    def purge(self, **_: Any) -> None:
        """Nothing was kept."""

    def touch(self, **_: Any) -> None:
        """Nothing is kept."""

    def clear(self, *, essence: Any) -> Any:
        return essence


async def _only_get(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    if request.method != "GET":
        raise RuntimeError(f"kopf tried to {request.method} {request.url}; it may only watch")
    return await handler(request)


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings: each one below is the cure of a trap that was met."""
    s = kopf.OperatorSettings()
    s.persistence.diffbase_storage, s.persistence.progress_storage = _NoDiff(), _NoProgress()
    # A finalizer name found on an object would make kopf patch it; nobody uses this one.
    s.persistence.finalizer = f"{GROUP}/never-used"
    s.posting.enabled = False
    s.scanning.disabled = True
    # It would SIGKILL a process that lives on after kopf was cancelled, as this one may.
    s.process.ultimate_exiting_timeout = None
    # By default a watcher gives up on a start-up 403 and stays blind for seconds after an outage.
    s.networking.error_backoffs = (1.0,) * 30
    s.networking.connect_timeout = 5
    s.networking.request_timeout = 30
    # Firing during a stall of the event loop, this kills a watcher without a word; the re-list
    # finds a silent watch instead.
    s.watching.inactivity_timeout = 1e9
    s.watching.server_timeout = 240
    s.watching.client_timeout = 300
    # An object may be as large as 1.5 MB, which Python may need ten times as much for.
    s.watching.chunk_size = 20
    # Memory and traffic grow with live jobs, not with finished ones.
    s.watching.field_selectors[GROUP, VERSION, JOBS] = LIVE_SELECTOR
    s.watching.label_selectors["v1", PODS] = labels.JOB
    # So long is each object held, once it was handled.
    s.queueing.idle_timeout = 0.1
    return s


def registry(seen: Seen, kopf_settings: kopf.OperatorSettings) -> kopf.OperatorRegistry:
    """Return the handlers; each tells *seen* (plural, event type or None for a re-list, object)."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.AiohttpSession:
        info = kopf.login_with_service_account(settings=kopf_settings)
        info = info or kopf.login_with_kubeconfig(settings=kopf_settings)
        if info is None:
            raise kopf.LoginError("There is neither a service account nor a kubeconfig.")
        session = aiohttp.ClientSession(
            headers=info.as_http_headers(),
            connector=aiohttp.TCPConnector(ssl=info.as_ssl_context(), limit=0),
            middlewares=[_only_get],
        )
        return kopf.AiohttpSession(server=info.server, aiohttp_session=session)

    async def on_event(
        type: str | None,  # noqa: A002  (kopf's name for it)
        body: kopf.Body,
        resource: kopf.Resource,
        **_: Any,
    ) -> None:
        # Returns nothing: a handler that returns a value makes kopf write a status.
        seen(resource.plural, type, dict(body))

    for plural in (PODS, NODES):
        kopf.on.event("v1", plural, registry=handlers)(on_event)
    for plural in (JOBS, *ADMINISTERED):
        kopf.on.event(GROUP, VERSION, plural, registry=handlers)(on_event)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    return handlers
