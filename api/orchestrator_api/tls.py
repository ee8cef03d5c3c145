"""TLS on the public port, if the chart says so: a certificate that may be renewed at any time."""

import asyncio
import logging
import ssl
from pathlib import Path

import uvicorn

log = logging.getLogger(__name__)
LOOK_SECONDS = 10.0


class Certificate:
    """A certificate and its key, as a Secret of type kubernetes.io/tls is mounted."""

    def __init__(self, directory: str) -> None:
        self.chain, self.key = (str(Path(directory) / name) for name in ("tls.crt", "tls.key"))
        self._known = self._text()

    async def renew(self, config: uvicorn.Config) -> None:
        """Have new connections use what lies there now, whenever that changes."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if config.ssl is not None:
                self.look(config.ssl)

    def look(self, context: ssl.SSLContext) -> None:
        """Load the certificate again if it is another; one that is wrong changes nothing."""
        try:
            found = self._text()
            if found != self._known:
                # Into one apart first: half a renewal would shut the door.
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                    self.chain, self.key
                )
                context.load_cert_chain(self.chain, self.key)
                self._known = found
                log.info("The TLS certificate was read anew.")
        except OSError as error:  # an SSLError is one, too
            log.error("The TLS certificate stays as it was: %s", error)  # noqa: TRY400

    def _text(self) -> tuple[bytes, bytes]:
        return Path(self.chain).read_bytes(), Path(self.key).read_bytes()
