"""What a job wrote is data: a browser that is led to it runs nothing of it and loads nothing for it.

The store holds what jobs may at worst have put there, and messages say what at worst they may print.
Every payload calls home where it is shown; it is opened in a tab and in a frame of another's page.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from hashlib import md5, sha256
from typing import Any

import pytest
from aiohttp import web

from orchestrator_api.app import create_app
from tests.browser.chromium import Browser, chromium
from tests.support.builders import CREATED, job_body
from tests.support.loopback import listening, served
from tests.support.system import System

HTML, SVG, XHTML, XML = "text/html", "image/svg+xml", "application/xhtml+xml", "text/xml"
NAMESPACE = 'xmlns="http://www.w3.org/1999/xhtml"'
# Name: (type that would show it, what it is). HOME is where it calls.
PAYLOADS: dict[str, tuple[str, str | bytes]] = {
    "a script": (HTML, "<script>new Image().src='HOME'</script>"),
    "a script that fetches": (HTML, "<script>fetch('HOME',{mode:'no-cors'})</script>"),
    "a script in capitals": (HTML, "<SCRIPT>new Image().src='HOME'</SCRIPT >"),
    "a script from elsewhere": (HTML, "<script src='HOME'></script>"),
    "a module": (HTML, "<script type=module>new Image().src='HOME'</script>"),
    "an image": (HTML, "<img src='HOME'>"),
    "an image that fails": (HTML, "<img src=x: onerror=\"new Image().src='HOME'\">"),
    "a style": (HTML, "<link rel=stylesheet href='HOME'>"),
    "a background": (HTML, "<body style=\"background:url('HOME')\">x"),
    "an import of styles": (HTML, "<style>@import 'HOME';</style>"),
    "a frame": (HTML, "<iframe src='HOME'></iframe>"),
    "a frame with its page": (HTML, "<iframe srcdoc=\"<img src='HOME'>\"></iframe>"),
    "a frame with a script for address": (
        HTML, "<iframe src=\"javascript:void(new Image().src='HOME')\"></iframe>",
    ),
    "an object": (HTML, "<object data='HOME'></object>"),
    "an embedded thing": (HTML, "<embed src='HOME'>"),
    "a refresh": (HTML, "<meta http-equiv=refresh content='0;url=HOME'>"),
    "a form that sends itself": (
        HTML, "<form id=f action='HOME'></form><script>f.submit()</script>",
    ),
    "a toggle": (HTML, "<details open ontoggle=\"new Image().src='HOME'\">x</details>"),
    "a film's poster": (HTML, "<video poster='HOME'></video>"),
    "a picture's source": (HTML, "<picture><source srcset='HOME'><img src=x:></picture>"),
    "a base": (HTML, "<base href='HOME/'><img src=x>"),
    "a drawing that loads": (SVG, "<svg xmlns='http://www.w3.org/2000/svg' onload=\"new Image().src='HOME'\"/>"),
    "a drawing's script": (SVG, "<svg xmlns='http://www.w3.org/2000/svg'><script>new Image().src='HOME'</script></svg>"),
    "a drawing's image": (SVG, "<svg xmlns='http://www.w3.org/2000/svg'><image href='HOME'/></svg>"),
    "a page in a drawing": (
        SVG, f"<svg xmlns='http://www.w3.org/2000/svg'><foreignObject><img {NAMESPACE} src='HOME'/></foreignObject></svg>",
    ),
    "strict HTML": (XHTML, f"<html {NAMESPACE}><script>new Image().src='HOME'</script></html>"),
    "XML that is HTML": (XML, "<x:html xmlns:x='http://www.w3.org/1999/xhtml'><x:img src='HOME'/></x:html>"),
    "XML with a style": (XML, "<?xml-stylesheet href='HOME' type='text/css'?><x/>"),
    "a zip that is a page": (HTML, b"PK\3\4<script>new Image().src='HOME'</script>"),
    "a GIF that is a page": (HTML, b"GIF89a<script>new Image().src='HOME'</script>"),
    "a PDF that is a page": (HTML, b"%PDF-1.7\n<script>new Image().src='HOME'</script>"),
    "UTF-16": (HTML, "\ufeff<script>new Image().src='HOME'</script>".encode("utf-16-le")),
    "much room before it": (HTML, " \n" * 700 + "<script>new Image().src='HOME'</script>"),
    "an end of JSON": (HTML, "\"}</script><script>new Image().src='HOME'</script>"),
}  # fmt: skip
GUARDS = {
    "x-content-type-options",
    "content-security-policy",
    "content-disposition",
    "content-type",
}
# Which of the four guards are there, and whether payloads call home.
DOORS = {
    "as it is": (GUARDS, False),
    "saved alone": ({"content-disposition"}, False),
    "shut in alone": ({"x-content-type-options", "content-security-policy"}, False),
    "unguarded": (set[str](), True),
}


class Careless:
    """The API without some of its guards: with the type that the payload would like to have."""

    def __init__(self, app: Any, guards: Collection[str], types: dict[str, str]) -> None:
        self._app, self._guards, self._types = app, guards, types

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def careless(message: Any) -> None:
            if message["type"] == "http.response.start":
                gone = {name.encode() for name in GUARDS - set(self._guards)}
                kept = [(n, v) for n, v in message["headers"] if n.lower() not in gone]
                if b"content-type" in gone:
                    kept.append((b"content-type", self._types.get(scope["path"], HTML).encode()))
                message["headers"] = kept
            await send(message)

        await self._app(scope, receive, careless)


@dataclass
class Home:
    """Where payloads call, and the page of a stranger that frames them."""

    url: str = ""
    calls: set[str] = field(default_factory=set)
    framed: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        if request.path.startswith("/call/"):
            self.calls.add(request.path.split("/")[2])
            return web.Response()
        frames = "".join(f"<iframe src='{url}'></iframe>" for url in self.framed)
        return web.Response(text=f"{frames}<img src='/call/stranger'>", content_type=HTML)


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    found = Home()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    async with listening(app) as endpoint:
        found.url = f"http://{endpoint}"
        yield found


def prepared(system: System, home: Home) -> tuple[dict[str, str], dict[str, str]]:
    """Have jobs that left each payload, or print it at their end.

    Returns which payload each path has, and of what type it would like to be.
    """
    left: dict[str, str] = {}
    types: dict[str, str] = {}
    for number, (name, (kind, payload)) in enumerate(PAYLOADS.items()):
        raw = payload.encode() if isinstance(payload, str) else payload
        at = f"{home.url}/call/{number}"
        wide = raw.startswith(b"\xff\xfe")
        mark, there = (t.encode("utf-16-le" if wide else "ascii") for t in ("HOME", at))
        data = raw.replace(mark, there)
        wrote, said = 2 * number + 1, 2 * number + 2
        key = f"jobs/{number}/results-1.zip"
        system.s3.objects[key] = data
        etag = md5(data).hexdigest()  # noqa: S324  (what S3 uses)
        results = {
            "key": key,
            "sizeBytes": len(data),
            "sha256": sha256(data).hexdigest(),
            "etag": etag,
            "updatedAt": CREATED,
        }
        done = job_body(f"job-{wrote}", phase="Completed", results=results)
        message = data.decode("utf-16-le" if wide else "utf-8")
        failed = job_body(f"job-{said}", phase="Failed", message=message)
        for body in (done, failed):
            system.kube.put("orchestratorjobs", body)
        paths = [f"/download/{wrote}", f"/download_partial/{wrote}"]
        if not wide and '"' not in message:
            # JSON puts a backslash before quotes, which makes them something else.
            paths += [f"/download/{said}", f"/v1/jobs/{said}/explain"]
        for path in paths:
            left[path], types[path] = (
                name,
                kind if "/download" in path and str(wrote) in path else HTML,
            )
    return left, types


def _file(url: str) -> bool:
    return bool(re.search(r"/download\w*/\d*[13579]$", url))


async def led_there(browser: Browser, home: Home, urls: list[str]) -> set[str]:
    """Open each in a stranger's frame, and what jobs left in a tab; returns which called home."""
    home.calls.clear()
    home.framed = urls
    tabs = [url for url in urls if "/download/" in url and _file(url)]
    for url in (*tabs, home.url):
        await browser.open(url)
    async with asyncio.timeout(30):
        while "stranger" not in home.calls:
            await asyncio.sleep(0.05)
    found: set[str] = set()
    # Until nothing more comes for a while.
    while found != home.calls:
        found = set(home.calls)
        await asyncio.sleep(2)
    await browser.close_tabs()
    names = list(PAYLOADS)
    return {names[int(call)] for call in found - {"stranger"}}


@pytest.mark.timeout(300)
async def test_nothing_that_a_job_left_or_said_runs_in_a_browser(
    system: System, home: Home
) -> None:
    left, types = prepared(system, home)
    assert len(PAYLOADS) > 30
    assert json.dumps(sorted(set(left.values()))) == json.dumps(sorted(PAYLOADS))
    found = {}
    async with chromium() as browser:
        for name, (guards, _) in DOORS.items():
            app = Careless(create_app(system.context), guards, types)
            async with served(app) as (host, port):
                # What a job said comes as JSON, which is not saved.
                shown = [path for path in left if name != "saved alone" or _file(path)]
                urls = [f"http://{host}:{port}{path}" for path in shown]
                found[name] = await led_there(browser, home, urls)
    assert found == {name: set(PAYLOADS) if calls else set() for name, (_, calls) in DOORS.items()}
