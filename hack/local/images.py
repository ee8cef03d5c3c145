"""Container images: what each is made of, its tag, and how it is built and carried.

A tag is a digest of all that goes into the image, so an image is built only when something
changed, and a new tag rolls the deployments that use it.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.paths import CACHE, ROOT, digest
from local.steps import Note
from local.toolchain import BIN

REGISTRY = "localhost/orchestrator"
DOCKERFILES = ROOT / "hack/dockerfiles"
ARCHIVES = CACHE / "images"
KEPT_ARCHIVES = 2
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

# The base of all images where no registry can be reached: Debian's Python, and little else.
BASE_PACKAGES = "python3,python3-venv,usr-is-merged"
_BASE_RECIPE = (
    "--variant=essential",
    # A merged /usr from the start, so that usrmerge and with it all of perl stay away.
    "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
    f"--include={BASE_PACKAGES}",
    *(f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "info", "locale", "man")),
    # In place of the package ca-certificates, which brings openssl and all of perl.
    f"--customize-hook=mkdir -p $1/etc/ssl/certs && cp {CA_BUNDLE} $1{CA_BUNDLE}",
    "--customize-hook=rm -rf $1/var/cache/* $1/var/lib/apt/* $1/var/log/* $1/usr/share/doc",
    "bookworm",
)
# Only while building: pip in the build stage asks the index the way the host does.
_AS_THE_HOST = (f"--volume={CA_BUNDLE}:/host-ca.crt:ro", "--build-arg=PIP_CERT=/host-ca.crt")


@dataclass(frozen=True)
class Image:
    """An image: what its content depends on, relative to the repository, and its build context."""

    name: str
    sources: tuple[str, ...]
    on_base: bool = True
    binary: str = ""

    @property
    def tag(self) -> str:
        """Return the digest of everything that goes into the image."""
        parts: list[Path | str] = [DOCKERFILES / f"{self.name}.Dockerfile"]
        parts += [ROOT / source for source in self.sources]
        if self.on_base:
            parts.append(repr((_BASE_RECIPE, _AS_THE_HOST)))
        if self.binary:
            parts.append(str(BIN.name))
        return digest(parts)

    @property
    def reference(self) -> str:
        """Return the full name, as a pod spec has it."""
        return f"{REGISTRY}/{self.name}:{self.tag}"

    @property
    def archive(self) -> Path:
        """Return where the built image lies in the cache."""
        return ARCHIVES / f"{self.name}-{self.tag}.tar"

    @property
    def bill(self) -> Path:
        """Return where its bill of materials lies, beside it."""
        return self.archive.with_suffix(".cdx.json")


IMAGES = {
    image.name: image
    for image in (
        Image("pause", ("hack/local/pause.c",), on_base=False),
        Image("minio", (), on_base=False, binary="minio"),
        Image(
            "operator",
            (
                "hack/locks/operator.txt",
                "crds",
                "operator/orchestrator_operator",
                "operator/orchestrator_agent",
            ),
        ),
        Image("api", ("hack/locks/api.txt", "crds", "api/orchestrator_api")),
        Image("agent", ("operator/orchestrator_agent",)),
        Image("example", ("hack/examples/docking/image",)),
    )
}


def make_base(note: Note) -> None:
    """Bootstrap the base image's file system, once."""
    target = _base_tar()
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    note.run(
        ["mmdebstrap", "--format=tar", *_BASE_RECIPE, fresh],
        hint="Check that Debian's package mirror can be reached.",
    )
    fresh.rename(target)


def _base_tar() -> Path:
    return ARCHIVES / f"base-{digest([repr(_BASE_RECIPE)])}.tar"


def build_early(note: Note) -> None:
    """Build the base and what needs no program of ours, while those are still being compiled."""
    make_base(note)
    _build_missing([image for image in IMAGES.values() if not image.binary], note)


def build_images(note: Note) -> None:
    """Build every image whose archive the cache does not have."""
    _build_missing(list(IMAGES.values()), note)


def _build_missing(images: list[Image], note: Note) -> None:
    missing = [i for i in images if not (i.archive.exists() and i.bill.exists())]
    for number, image in enumerate(missing, 1):
        note.show(f"{image.name}, {number} of {len(missing)}")
        _build(image, note)
        _forget_old(image)


def buildah(*words: str | Path) -> list[str | Path]:
    """Return a buildah command on a store of our own, so that nothing is shared or left behind."""
    return ["buildah", "--root", CACHE / "buildah/root", "--runroot", CACHE / "buildah/run", *words]


def _build(image: Image, note: Note) -> None:
    options: list[str | Path] = ["--isolation=chroot", "--layers", "--tag", image.reference]
    if image.on_base:
        options += ["--build-arg", f"BASE={_base_reference(note)}", *_AS_THE_HOST]
    with context_of(image, note) as context:
        note.run(
            buildah("bud", *options, "--file", DOCKERFILES / f"{image.name}.Dockerfile", context),
            hint="The log has the output of the Dockerfile's commands.",
        )
    fresh = image.archive.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    note.run(buildah("push", image.reference, f"oci-archive:{fresh}:{image.reference}"))
    # Here, since it takes a third of a second that only a build should.
    from local import sbom

    with _mounted(image, note) as root:
        image.bill.write_text(sbom.of_image(image.name, image.tag, root))
    fresh.rename(image.archive)


@contextmanager
def _mounted(image: Image, note: Note) -> Iterator[Path]:
    """Give the folder with a built image's file system, while the block runs."""
    container = f"bill-{image.name}-{image.tag}"
    note.run(buildah("from", "--name", container, "--pull-never", image.reference))
    try:
        words = [os.fspath(word) for word in buildah("mount", container)]
        yield Path(subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip())
    finally:
        note.run(buildah("rm", container))


def _forget_old(image: Image) -> None:
    """Remove all but the newest archives of *image*: every edit makes one."""
    archives = ARCHIVES.glob(f"{image.name}-*.tar")
    for old in sorted(archives, key=lambda path: path.stat().st_mtime)[:-KEPT_ARCHIVES]:
        old.unlink()
        old.with_suffix(".cdx.json").unlink(missing_ok=True)


@contextmanager
def context_of(image: Image, note: Note) -> Iterator[Path]:
    """Give the folder that *image* is built from, while the block runs."""
    if not image.binary and image.name != "pause":
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if image.binary:
            shutil.copy2(BIN / image.binary, folder / image.binary)
        else:
            source = ROOT / "hack/local/pause.c"
            note.run(["gcc", "-Os", "-static", "-s", "-o", folder / "pause", source])
        yield folder


def _base_reference(note: Note) -> str:
    tar = _base_tar()
    reference = f"{REGISTRY}/base:{tar.stem.removeprefix('base-')}"
    known = subprocess.run(
        [os.fspath(w) for w in buildah("inspect", "--type", "image", reference)],
        capture_output=True,
        check=False,
    )
    if known.returncode:
        with tempfile.TemporaryDirectory() as folder:
            dockerfile = Path(folder, "Dockerfile")
            dockerfile.write_text("FROM scratch\nADD base.tar /\n")
            shutil.copy(tar, dockerfile.with_name("base.tar"))
            note.run(buildah("bud", "--tag", reference, folder))
    return reference
