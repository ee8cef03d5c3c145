"""The canary: a port that no job's pod can reach once its network policy is in force."""

import asyncio

CANARY_SECONDS = 1.0


class Canary:
    """A port that only a job's network policy closes: reached, it proves that none is in force."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, None, self.port)

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def listening(self) -> bool:
        """Return whether a connection is accepted."""
        try:
            async with asyncio.timeout(CANARY_SECONDS):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True
