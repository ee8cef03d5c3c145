"""Requests to the Kubernetes API: JSON in, JSON out, errors translated."""

import json
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config

from orchestrator_crds.meta import API_VERSION, written
from orchestrator_wire import errors

Bodies = list[dict[str, Any]]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
MERGE_PATCH = "application/merge-patch+json"
REQUEST_SECONDS = 15.0
# How many objects a list is asked for at once, and how many bytes may come: an object may be as
# large as 1.5 MB, and whoever may make some may make many.
PAGE, LARGEST_PAGE = 500, 4 << 20
WATCH_SECONDS = 240


def now() -> str:
    """Return the present as Kubernetes writes it."""
    return written(datetime.now(UTC))


def resources_path(namespace: str, plural: str, name: str = "", subresource: str = "") -> str:
    """Return the path of our custom resources, of one of them, or of a part of one."""
    parts = ["/apis", API_VERSION, "namespaces", namespace, plural, name, subresource]
    return "/".join(part for part in parts if part)


def pods_path(namespace: str, name: str = "") -> str:
    """Return the path of pods, or of one pod."""
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")


def policies_path(namespace: str, name: str = "") -> str:
    """Return the path of NetworkPolicies, or of one."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    return path + (f"/{name}" if name else "")


class _TooMuch(Exception):  # noqa: N818
    """An answer is larger than we want to hold."""


class Kube:
    """A connection to the API server, with the library's own way of finding and refreshing it.

    Requests are raw JSON: a typed pod costs more to decode than the request to make.
    """

    def __init__(self, configuration: client.Configuration) -> None:
        configuration.retries = None
        configuration.connection_pool_maxsize = 128
        # Else every request looks for a .netrc, in a thread: a fifth of what a request costs.
        configuration.client_session_kwargs = {"trust_env": False}
        self._api = client.ApiClient(configuration)

    @classmethod
    async def connect(cls, kubeconfig: str = "") -> "Kube":
        """Connect by *kubeconfig* when given, else as this pod's account, else by the default."""
        configuration = client.Configuration()
        if kubeconfig:
            await config.load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
            return cls(configuration)
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        return cls(configuration)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def request(
        self, method: Method, path: str, body: Any = None, **query: str
    ) -> dict[str, Any]:
        """Send one request and return the answer; raises ClusterError's kinds."""
        return await self._request(method, path, body, None, query)

    async def _request(
        self, method: Method, path: str, body: Any, limit: int | None, query: dict[str, str]
    ) -> dict[str, Any]:
        """Send one request; raises _TooMuch, too, for an answer of more than *limit* bytes."""
        try:
            response = await self._send(method, path, body, REQUEST_SECONDS, query)
            data = await _body(response, limit)
        except aiohttp.ClientConnectorError as error:
            raise errors.Unreachable(f"{method} {path}: {error!r}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Temporary(f"{method} {path}: {error!r}") from error
        answer = _decode(data)
        if response.status >= 300:
            raise translate(response.status, answer, f"{method} {path}")
        return answer

    async def list(self, path: str, **query: str) -> tuple[Bodies, str]:
        """Return every object at *path* and the resourceVersion that the list stands for."""
        items: Bodies = []
        version = ""
        async for page, version in self.pages(path, **query):  # noqa: B007  (the last one's)
            items += page
        return items, version

    async def pages(self, path: str, **query: str) -> AsyncIterator[tuple[Bodies, str]]:
        """Yield the objects at *path* a page at a time, with the list's resourceVersion.

        A page has some hundreds of them, or fewer where they are large.
        """
        more: dict[str, str] = {}
        size = PAGE
        while True:
            asked = {"limit": str(size), **query, **more}
            try:
                most = LARGEST_PAGE if size > 1 else None
                answer = await self._request("GET", path, None, most, asked)
            except _TooMuch:
                size = max(size // 8, 1)
                continue
            size = min(2 * size, PAGE)
            metadata = answer.pop("metadata", None) or {}
            yield answer.pop("items", None) or [], str(metadata.get("resourceVersion", ""))
            if not metadata.get("continue"):
                return
            more = {"continue": metadata["continue"]}

    async def watch(
        self, path: str, resource_version: str, **query: str
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield (event type, object) from *resource_version* on, until the server ends the watch.

        Raises NotFound when that version is too old (list again), and Temporary when the
        connection breaks.
        """
        query |= {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        try:
            response = await self._send("GET", path, None, WATCH_SECONDS + 60, query)
            try:
                if response.status >= 300:
                    answer = _decode(await response.read())
                    raise translate(response.status, answer, f"watch {path}")
                while line := await response.response.content.readline():
                    event = _decode(line)
                    kind, body = str(event.get("type")), event.get("object") or {}
                    if kind == "ERROR":
                        raise translate(int(body.get("code", 500)), body, f"watch {path}")
                    yield kind, body
            finally:
                response.response.close()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise errors.Temporary(f"watch {path}: {error!r}") from error

    async def _send(
        self, method: Method, path: str, body: Any, seconds: float, query: dict[str, str]
    ) -> Any:
        url = self._api.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        # The keys of service accounts come as application/jwk-set+json only.
        headers = {"Accept": "application/json, */*"}
        if method == "PATCH":
            headers["Content-Type"] = MERGE_PATCH
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], url, method, body)
        return await self._api.call_api(
            method, url, header_params=headers, body=body, _request_timeout=seconds
        )


async def _body(response: Any, limit: int | None) -> bytes:
    if limit is None:
        return bytes(await response.read())
    found = bytearray()
    # Of an answer that was read to its end, nothing is left to be closed.
    with closing(response.response) as source:
        async for piece in source.content.iter_any():
            found += piece
            if len(found) > limit:
                raise _TooMuch
    return bytes(found)


def _decode(data: bytes | None) -> dict[str, Any]:
    try:
        answer = json.loads(data or b"{}")
    except ValueError:
        answer = {"message": (data or b"").decode(errors="replace")[:500]}
    return answer if isinstance(answer, dict) else {}


def translate(status: int, answer: dict[str, Any], what: str) -> errors.ClusterError:
    """Return the error for an answer that is none; 409 is read by its reason, not its number."""
    reason = answer.get("reason", "")
    sentence = f"{what}: {status} {reason} {answer.get('message', '')}".strip()
    if status == 409:
        kind = errors.AlreadyExists if reason == "AlreadyExists" else errors.Conflict
        return kind(sentence)
    if status in {404, 410}:
        return errors.NotFound(sentence)
    # 401: a token may have been renewed on disk a moment ago.
    if status in {401, 408, 429} or status >= 500:
        return errors.Temporary(sentence)
    return errors.Permanent(sentence)
