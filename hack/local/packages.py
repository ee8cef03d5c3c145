"""Debian packages: what the local cluster and the tests need of the machine."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from local.paths import CACHE, digest
from local.steps import Note, StepFailed

# Debian package -> a file that it brings.
PACKAGES = {
    "7zip": "/usr/bin/7zz",
    "buildah": "/usr/bin/buildah",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
    "conntrack": "/usr/sbin/conntrack",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "ethtool": "/usr/sbin/ethtool",
    "gcc": "/usr/bin/gcc",
    "git": "/usr/bin/git",
    "iproute2": "/usr/sbin/ip",
    "ipset": "/usr/sbin/ipset",
    "iptables": "/usr/sbin/iptables",
    "libarchive-tools": "/usr/bin/bsdtar",
    "libc6-dev": "/usr/include/stdlib.h",
    "libseccomp-dev": "/usr/include/seccomp.h",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "mount": "/usr/bin/mount",
    "nftables": "/usr/sbin/nft",
    "pkg-config": "/usr/bin/pkg-config",
    "procps": "/usr/bin/ps",
    "unzip": "/usr/bin/unzip",
    "util-linux": "/usr/bin/unshare",
}

BROWSER = {"chromium": "/usr/bin/chromium"}
# Unpacked, not installed: an installed one would serve port 80 of whoever runs the tests.
PROXY_PACKAGES = ("haproxy", "nginx")
PROXIES = CACHE / f"proxies-{digest(PROXY_PACKAGES)}"
_HINT = "Check that Debian's package mirror can be reached."


def install_packages(note: Note) -> None:
    """Install the Debian packages that are missing; needs root only when one is."""
    _install(PACKAGES, note)


def install_browser(note: Note) -> None:
    """Install the browser that tests are run in."""
    _install(BROWSER, note)


def unpack_proxies(note: Note) -> None:
    """Unpack the proxies that tests put before the API, with the libraries that are missing."""
    if PROXIES.exists():
        return
    fresh = PROXIES.with_name(f".{PROXIES.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "packages/partial").mkdir(parents=True)
    there = f"Dir::Cache::archives={fresh}/packages"
    _apt(["--download-only", "--reinstall", "-o", there], PROXY_PACKAGES, note)
    for package in fresh.glob("packages/*.deb"):
        note.run(["dpkg-deb", "--extract", package, fresh])
    shutil.rmtree(fresh / "packages")
    fresh.rename(PROXIES)


def _install(packages: dict[str, str], note: Note) -> None:
    if missing := [name for name, file in packages.items() if not _present(file)]:
        _apt([], missing, note)


def _apt(options: Iterable[str], packages: Iterable[str], note: Note) -> None:
    names = " ".join(packages)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise StepFailed(f"These packages are missing: {names}. Install them as root.")
    note.show(names)
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    note.run(["apt-get", "update"], env=env, hint=_HINT)
    install = ["apt-get", "install", "-y", "--no-install-recommends"]
    note.run([*install, *options, *packages], env=env, hint=_HINT)


def _present(file: str) -> bool:
    # Debian is merging /bin and /sbin into /usr; a file may still be found under either.
    return Path(file).exists() or Path(file.removeprefix("/usr")).exists()
