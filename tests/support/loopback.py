"""Servers on loopback ports: whatever a test makes up, and the API behind its own HTTP server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from orchestrator_api.serving import Protocol, server
from tests.support.raw import Address


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    """Serve *app* while the block runs; gives its HOST:PORT."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def served(app: Any, protocol: Any = Protocol) -> AsyncIterator[Address]:
    """Serve *app* as the API is served, while the block runs."""
    one = server(app, 0, protocol=protocol)
    task = asyncio.create_task(one.serve())
    while not one.started:
        await asyncio.sleep(0.005)
    try:
        yield "127.0.0.1", one.servers[0].sockets[0].getsockname()[1]
    finally:
        one.should_exit = one.force_exit = True
        await task
