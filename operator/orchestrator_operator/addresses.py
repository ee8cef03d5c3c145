"""Where the names of callbacks may lead: looked up once, and only what is found fit is dialled."""

import ipaddress
import socket
from collections.abc import Collection

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

# IPv4 addresses in IPv6 ones: of a translator (RFC 6052), and of old (RFC 4291, 2.5.5.1).
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::/96"))


class NotThere(OSError):  # noqa: N818
    """A name leads only to where callbacks do not go."""


def fit(address: str, *, anywhere: bool) -> bool:
    """Return whether a callback may go to an IP address.

    Never to this very pod or link, where clouds have their metadata services. To private ones, such
    as the cluster's, only with *anywhere*: where the administrator has written the name itself, and
    not a pattern that strangers may have names for.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip.packed[:15] != bytes(15) and any(ip in n for n in _TRANSLATED):
            inner = ipaddress.IPv4Address(ip.packed[-4:])
        if inner is not None:
            return fit(str(inner), anywhere=anywhere)
    if ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast:
        return False
    return anywhere or ip.is_global


class Resolver(AbstractResolver):
    """Looks names up, and leaves out what is not fit."""

    def __init__(self, hosts: Collection[str], inner: AbstractResolver | None = None) -> None:
        """Take the hosts that the administrator allows, as they are written."""
        names = (entry.lower().removeprefix("http://").partition(":")[0] for entry in hosts)
        self._written = frozenset(names)
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of *host*; raises OSError when none is fit."""
        found = await self._inner.resolve(host, port, family)
        left = [one for one in found if fit(one["host"], anywhere=host.lower() in self._written)]
        if not left:
            raise NotThere(f"{host} leads to no address that callbacks go to")
        return left

    async def close(self) -> None:
        """Close what looks names up."""
        await self._inner.close()
