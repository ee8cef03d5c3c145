"""Real proxies on loopback ports: nginx as the example has it, and HAProxy at its most trusting."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from local.packages import PROXIES
from local.paths import EXAMPLES
from tests.support.raw import Address

# What is about the machine, and what the example leaves to whoever includes it.
NGINX = """
daemon off;
master_process off;
pid pid;
error_log error.log;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include orchestrator.conf;
}
"""
# One caller's connection serves the next one's requests as soon as it is idle.
HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend public
    bind {host}:{port}
    {more}
    default_backend api
backend api
    http-reuse always
    server api {back[0]}:{back[1]}
"""
# Its manual: "this option should never be enabled by default".
LENIENT = "option accept-invalid-http-request"
KINDS = ("nginx", "haproxy", "lenient haproxy")
# HAProxy speaks it to whoever begins with it; an nginx of this age must be told, without TLS.
HTTP2_KINDS = ("nginx with http2", "haproxy", "lenient haproxy")


def example(front: Address, back: Address, more: str = "") -> str:
    """Return the example for these addresses, and without TLS; *more* is for its `listen`."""
    text = (EXAMPLES / "ingress/nginx.conf").read_text()
    for line, instead in {
        "listen 443 ssl;": f"listen {front[0]}:{front[1]}{more};",
        "server 127.0.0.1:5000;": f"server {back[0]}:{back[1]};",
        "ssl_certificate /etc/ssl/orchestrator/tls.crt;": "",
        "ssl_certificate_key /etc/ssl/orchestrator/tls.key;": "",
    }.items():
        assert text.count(line) == 1, line
        text = text.replace(line, instead)
    return text


def _prepared(kind: str, front: Address, back: Address, folder: Path) -> list[str]:
    """Write what a proxy of this *kind* reads into *folder*; returns its command."""
    if kind.startswith("nginx"):
        spoken = " http2" if kind in HTTP2_KINDS else ""
        (folder / "nginx.conf").write_text(NGINX)
        (folder / "orchestrator.conf").write_text(example(front, back, spoken))
        options = ["-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
        return [str(PROXIES / "usr/sbin/nginx"), *options]
    more = LENIENT if kind == "lenient haproxy" else ""
    text = HAPROXY.format(host=front[0], port=front[1], back=back, more=more)
    (folder / "haproxy.cfg").write_text(text)
    return [str(PROXIES / "usr/sbin/haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


@asynccontextmanager
async def proxy(kind: str, back: Address, folder: Path) -> AsyncIterator[Address]:
    """Run one before *back* while the block runs; gives where it listens."""
    assert PROXIES.exists(), "The proxies are missing; hack/test unpacks them."
    with socket.create_server(("127.0.0.1", 0)) as free:
        front: Address = free.getsockname()
    libraries = ":".join(map(str, PROXIES.glob("usr/lib/*-linux-gnu")))
    with (folder / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *_prepared(kind, front, back, folder),
            env=os.environ | {"LD_LIBRARY_PATH": libraries},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        while not await _listens(front):
            assert process.returncode is None, (folder / "output").read_text()
            await asyncio.sleep(0.02)
        yield front
    finally:
        process.kill()
        await process.wait()


async def _listens(address: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection(*address)
    except ConnectionError:
        return False
    writer.close()
    return True
