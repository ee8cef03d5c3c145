"""A Kubernetes API for unit tests: real HTTP on loopback, objects in memory.

It does what our code relies on: resource versions and conflicts with their reasons, merge
patches, the status subresource, field and label selectors, watches, owner and uid checks. What
an API server decides by itself (schemas, admission, garbage collection) is the cluster tests'.
"""

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from kubernetes.aio import client

from orchestrator_wire.kube import Kube, now
from tests.support.loopback import listening
from tests.support.merge import merged

_PATH = re.compile(
    r"/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/(?P<ns>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>status))?"
)
Failure = Callable[[str, str], web.Response | None]


def _at(body: Any, path: str) -> str:
    for part in path.split("."):
        body = (body or {}).get(part)
    return str(body or "")


def _selected(body: Any, selector: str) -> bool:
    for term in filter(None, selector.split(",")):
        path, equal, value = re.split(r"(!?=)", term)
        if (_at(body, path) == value) != (equal == "="):
            return False
    return True


def _event(kind: str, body: dict[str, Any], selector: str) -> bytes:
    # What leaves the selected arrives as deleted.
    return _line(kind if _selected(body, selector) else "DELETED", body)


def _line(kind: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


def _status(code: int, reason: str) -> web.Response:
    body = {"kind": "Status", "code": code, "reason": reason, "message": reason}
    return web.json_response(body, status=code)


@dataclass
class FakeKube:
    """The cluster's state, and every write that was made."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    # Asked before each request: (method, path) -> an answer in place of the real one, or None.
    before: Failure | None = None
    # Asked after each request was carried out, to lose its answer.
    after: Failure | None = None
    versions: Any = field(default_factory=lambda: itertools.count(100))
    watchers: list[tuple[str, str, "asyncio.Queue[bytes | None]"]] = field(default_factory=list)
    # What happened, oldest first: (version, plural, type, object).
    history: list[tuple[int, str, str, dict[str, Any]]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def put(self, plural: str, body: dict[str, Any]) -> dict[str, Any]:
        """Set an object, as somebody else would; returns it with its new version."""
        known = (plural, body["metadata"]["name"]) in self.objects
        body["metadata"]["resourceVersion"] = str(next(self.versions))
        self.objects[plural, body["metadata"]["name"]] = body
        self._tell(plural, "MODIFIED" if known else "ADDED", body)
        return body

    def get(self, plural: str, name: str) -> dict[str, Any]:
        """Return an object."""
        return self.objects[plural, name]

    def remove(self, plural: str, name: str) -> None:
        """Take an object away."""
        body = self.objects.pop((plural, name))
        body["metadata"]["resourceVersion"] = str(next(self.versions))
        self._tell(plural, "DELETED", body)

    def _tell(self, plural: str, kind: str, body: dict[str, Any]) -> None:
        copy = json.loads(json.dumps(body))
        self.history.append((int(body["metadata"]["resourceVersion"]), plural, kind, copy))
        for watched, selector, queue in self.watchers:
            if watched == plural:
                queue.put_nowait(_event(kind, copy, selector))

    async def end_watches(self, *, bookmark: bool = True) -> None:
        """End every watch, as a server does after the seconds that it was asked for."""
        metadata = {"resourceVersion": str(next(self.versions))}
        ended = list(self.watchers)
        for _, _, queue in ended:
            if bookmark:
                queue.put_nowait(_line("BOOKMARK", {"metadata": metadata}))
            queue.put_nowait(None)
        while any(watcher in self.watchers for watcher in ended):
            await asyncio.sleep(0)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        (self.reads if request.method == "GET" else self.writes).append(
            f"{request.method} {request.path}"
        )
        if self.before and (answer := self.before(request.method, request.path)):
            return answer
        if request.path in self.extra:
            return web.json_response(self.extra[request.path])
        found = _PATH.fullmatch(request.path)
        if found is None:
            return _status(404, "NotFound")
        if request.query.get("watch"):
            return await self._watch(request, found["plural"])
        body = await request.json() if request.can_read_body else None
        response = self._do(request, found["plural"], found["name"], found["sub"], body)
        if self.after and (answer := self.after(request.method, request.path)):
            return answer
        return response

    def _do(
        self, request: web.Request, plural: str, name: str | None, sub: str | None, body: Any
    ) -> web.Response:
        if name is None:
            return (
                self._create(plural, body)
                if request.method == "POST"
                else self._list(request, plural)
            )
        old = self.objects.get((plural, name))
        if old is None:
            return _status(404, "NotFound")
        if request.method == "GET":
            return web.json_response(old)
        if request.method == "DELETE":
            for field_name, wanted in ((body or {}).get("preconditions") or {}).items():
                if wanted != old["metadata"][field_name]:
                    return _status(409, "Conflict")
            old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            return web.json_response(self.put(plural, old))
        wanted = (body.get("metadata") or {}).get("resourceVersion")
        if wanted and wanted != old["metadata"]["resourceVersion"]:
            return _status(409, "Conflict")
        if request.method == "PUT":
            return web.json_response(self.put(plural, body))
        part = (
            {"status": body.get("status")}
            if sub
            else {k: v for k, v in body.items() if k != "status"}
        )
        part.pop("metadata", None)
        return web.json_response(self.put(plural, merged(old, part)))

    def _create(self, plural: str, body: dict[str, Any]) -> web.Response:
        name = body["metadata"]["name"]
        if (plural, name) in self.objects:
            return _status(409, "AlreadyExists")
        body["metadata"] |= {
            "uid": f"uid-{name}",
            "generation": 1,
            "creationTimestamp": now(),
        }
        if plural == "orchestratorjobs":
            body.setdefault("status", {"phase": "Queued", "observedGeneration": -1})
        if plural == "pods":
            body |= {"kind": "Pod", "status": {"phase": "Pending"}}
        return web.json_response(self.put(plural, body), status=201)

    def _list(self, request: web.Request, plural: str) -> web.Response:
        items = [b for (p, _), b in sorted(self.objects.items()) if p == plural]
        items = [b for b in items if _selected(b, request.query.get("fieldSelector", ""))]
        if label := request.query.get("labelSelector"):
            key, _, value = label.partition("=")
            carried = [(b, (b["metadata"].get("labels") or {}).get(key)) for b in items]
            items = [b for b, found in carried if found is not None and value in ("", found)]
        metadata = {"resourceVersion": str(next(self.versions))}
        start = int(request.query.get("continue", 0))
        end = start + int(request.query.get("limit", len(items)))
        if end < len(items):
            metadata["continue"] = str(end)
        return web.json_response({"items": items[start:end], "metadata": metadata})

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        selector = request.query.get("fieldSelector", "")
        since = int(request.query.get("resourceVersion") or next(self.versions))
        for version, changed, kind, body in self.history:
            if changed == plural and version > since > 0:
                queue.put_nowait(_event(kind, body, selector))
        watcher = (plural, selector, queue)
        self.watchers.append(watcher)
        try:
            while (event := await queue.get()) is not None:
                await response.write(event)
        finally:
            self.watchers.remove(watcher)
        return response


@contextlib.asynccontextmanager
async def fake_kube() -> AsyncIterator[tuple[FakeKube, Kube]]:
    """Serve a cluster on a loopback port; gives its state and a connection to it."""
    state = FakeKube()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", state.handle)
    async with listening(app) as endpoint:
        kube = Kube(client.Configuration(host=f"http://{endpoint}"))
        try:
            yield state, kube
        finally:
            await kube.close()
