"""A real Chromium, headless, told what to open over its own protocol."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

# It runs as root, which its own sandbox does not; what is opened is ours.
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
           "--disable-background-networking", "--disable-component-update", "--disable-sync",
           "--no-first-run", "--remote-debugging-port=0", "--disable-popup-blocking")  # fmt: skip


class Browser:
    """One browser, and the tabs that were opened in it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self._tabs: list[str] = []

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return the answer."""
        self._number += 1
        call = {"id": self._number, "method": method, "params": parameters}
        await self._socket.send_json(call)
        while True:
            answer = await self._socket.receive_json(timeout=30)
            if answer.get("id") == self._number:
                found: dict[str, Any] = answer
                return found

    async def open(self, url: str) -> None:
        """Open an address in a tab of its own, as a person would who was sent a link."""
        tab = await self.ask("Target.createTarget", url=url)
        self._tabs.append(tab["result"]["targetId"])

    async def close_tabs(self) -> None:
        """Close them all; those that became downloads have closed themselves."""
        for tab in self._tabs:
            await self.ask("Target.closeTarget", targetId=tab)
        self._tabs.clear()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run one while the block runs."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            "chromium", *OPTIONS, f"--user-data-dir={folder}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while len(lines := _lines(Path(folder, "DevToolsActivePort"))) < 2:
                assert process.returncode is None, "chromium has ended"
                await asyncio.sleep(0.05)
            port, path = lines
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0) as socket,
            ):
                yield Browser(socket)
        finally:
            process.kill()
            await process.wait()
