"""What each image is made of: a CycloneDX 1.6 bill of materials, read from its own file system.

Python distributions are told by their metadata, Debian packages by dpkg's status, Go modules by the
build information that the compiler leaves in a program.
"""

import email
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.utils import canonicalize_name

# What `go version -m` looks for, too: runtime/debug's modinfo, between two marks of 16 bytes.
_GO_BEGIN = bytes.fromhex("3077af0c9274080241e1c107e6d618e6")
_GO_END = bytes.fromhex("f932433186182072008242104116d8f2")
_LICENCES = LicenseFactory()


def of_image(name: str, version: str, root: Path) -> str:
    """Return the bill of materials, as JSON, of the image whose file system is at *root*."""
    parts = [*python(root), *debian(root), *go(root)]
    whole = Component(type=ComponentType.CONTAINER, name=name, version=version, bom_ref=name)
    bom = Bom(components=parts)
    bom.metadata.component = whole
    bom.register_dependency(whole, parts)
    return JsonV1Dot6(bom).output_as_string(indent=1)


def _part(kind: str, name: str, version: str, licence: str = "", **more: Any) -> Component:
    purl = PackageURL(kind, name=name, version=version, **more)
    licences = [_LICENCES.make_from_string(licence)] if licence else []
    return Component(name=name, version=version, purl=purl, bom_ref=str(purl), licenses=licences)


def python(root: Path) -> Iterator[Component]:
    """Yield the Python distributions under *root*."""
    folders = {path.parent for path in root.rglob("*.dist-info")}
    for found in distributions(path=[str(folder) for folder in sorted(folders)]):
        yield _part("pypi", canonicalize_name(found.name), found.version, _licence(found))


def _licence(found: Distribution) -> str:
    metadata = found.metadata.json
    if text := metadata.get("license_expression"):
        return str(text)
    for line in metadata.get("classifier", ()):
        if line.startswith("License :: ") and line != "License :: OSI Approved":
            return line.rpartition(" :: ")[2]
    # Some have the whole text there.
    return str(metadata.get("license", "")).strip().partition("\n")[0][:100]


def debian(root: Path) -> Iterator[Component]:
    """Yield the Debian packages that are installed under *root*."""
    status = root / "var/lib/dpkg/status"
    for text in status.read_text().split("\n\n") if status.exists() else ():
        fields = email.message_from_string(text)
        name, version = fields["Package"], fields["Version"]
        if name and "installed" in (fields["Status"] or "").split():
            where = {"arch": fields["Architecture"]}
            yield _part("deb", name, version, namespace="debian", qualifiers=where)


def go(root: Path) -> Iterator[Component]:
    """Yield the modules of the Go programs at the top of *root*."""
    for program in sorted(path for path in root.iterdir() if path.is_file()):
        _, begin, rest = program.read_bytes().partition(_GO_BEGIN)
        told, end, _ = rest.partition(_GO_END)
        if begin and end:
            lines = [line.split("\t") for line in told.decode().splitlines()]
            # What replaces another comes right after it, as `=>`.
            kinds = [words[0] for words in lines] + [""]
            for n, words in enumerate(lines):
                if words[0] in {"mod", "dep", "=>"} and kinds[n + 1] != "=>":
                    yield _part("golang", words[1], words[2])
