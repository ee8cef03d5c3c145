"""Tries to get out of its container, and prints what came of each try, as JSON.

Runs by itself inside a pod. Every try is one that does no harm where it succeeds: where the kernel
asks for the right first and looks at the arguments afterwards, the arguments are nonsense, so that
`EINVAL` or `ENOENT` tells that the right was there.
"""

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
# The numbers of x86-64 and of the generic table, which arm64 has.
X86 = os.uname().machine == "x86_64"
NUMBERS = {
    "capset": (126, 91), "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268),
    "pivot_root": (155, 41), "ptrace": (101, 117), "keyctl": (250, 219), "add_key": (248, 217),
    "bpf": (321, 280), "perf_event_open": (298, 241), "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282), "kexec_load": (246, 104), "init_module": (175, 105),
    "settimeofday": (170, 170), "reboot": (169, 142), "swapon": (167, 224), "mknodat": (259, 33),
    "open_by_handle_at": (304, 265), "process_vm_readv": (310, 270), "fsopen": (430, 430),
    "move_mount": (429, 429), "quotactl": (179, 60), "syslog": (103, 116), "clone3": (435, 435),
}  # fmt: skip
NAMESPACES = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000}
PTRACE_SEIZE, SOCK_ALG, SOCK_VSOCK = 0x4206, 38, 40
# Filters go by the kind of call, too: what is refused by one gate may stand open at another.
X32, UNSHARE_OF_32_BITS = 0x40000000, 310
# The start of every JSON Web Token, written so that this file is no hit itself.
TOKEN = b"ey" + b"JhbGci"
MOST_BYTES = 1 << 20


def call(name: str, *arguments: object, of: int = 0) -> str:
    """Make a system call, *of* another table than usual; returns `done` or the error's name."""
    number = NUMBERS[name][0 if X86 else 1] | of
    words = [a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]  # type: ignore[arg-type]
    if LIBC.syscall(ctypes.c_long(number), *words) >= 0:
        return "done"
    return errno.errorcode[ctypes.get_errno()]


def attempt(action: Callable[[], object]) -> str:
    """Return `done`, or the name of the error that *action* met."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except ValueError:
        return "EPERM"  # as the module resource says it
    return "done"


def apart(action: Callable[[], str]) -> str:
    """Return what *action* does in a process of its own, which it may change as it likes."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, action().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text or "killed"


def rights() -> dict[str, object]:
    """Who this process is, and whether it can become somebody else."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    header = (0x20080522).to_bytes(4, sys.byteorder) + bytes(4)
    raw = (1 << 13).to_bytes(4, sys.byteorder)  # CAP_NET_RAW
    found: dict[str, object] = {name: status[name].strip() for name in wanted}
    found["uids"] = sorted({int(word) for word in status["Uid"].split()})
    found["gids"] = sorted({int(w) for w in (status["Gid"] + " " + status["Groups"]).split()})
    found["setuid 0"] = apart(lambda: attempt(lambda: os.setuid(0)))
    found["setgid 0"] = apart(lambda: attempt(lambda: os.setgid(0)))
    found["setgroups 0"] = apart(lambda: attempt(lambda: os.setgroups([0])))
    found["capset"] = apart(lambda: raised(call("capset", header, raw + raw + bytes(16))))
    found["su"] = as_root("su", "-c", "id -u")
    found["sudo"] = as_root("sudo", "-n", "id", "-u")
    found["priority"] = attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
    found["real time"] = attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
    found["oom score"] = attempt(lambda: Path("/proc/self/oom_score_adj").write_text("-999"))
    found["more files"] = attempt(
        lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 19, 1 << 20))
    )
    return found


def raised(outcome: str) -> str:
    """Return what came of a capset, which may say `done` and have given nothing."""
    [line] = [s for s in Path("/proc/self/status").read_text().splitlines() if "CapPrm" in s]
    return outcome if int(line.split()[1], 16) or outcome != "done" else "nothing"


def as_root(*argv: str) -> str:
    """Return whether a program that raises rights gives a root shell."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    return "root" if done.stdout == b"0\n" else "refused"


def kernel() -> dict[str, object]:
    """System calls that reach beyond a process."""
    folder = os.open("/", os.O_RDONLY)
    attributes = (5).to_bytes(4, "little") + (112).to_bytes(4, "little") + bytes(104)
    found: dict[str, object] = {
        f"unshare {name}": apart(lambda flag=flag: call("unshare", flag))  # type: ignore[misc]
        for name, flag in NAMESPACES.items()
    }
    found |= {
        "clone3": apart(clone_users),
        "unshare by the gate for 32 bits": apart(narrow),
        "unshare by numbers of x32": apart(lambda: call("unshare", NAMESPACES["mount"], of=X32)),
        "setns of process 1": apart(enter),
        "mount": apart(lambda: call("mount", b"none", b"/mnt", b"tmpfs", 0, 0)),
        "remount": apart(lambda: call("mount", b"none", b"/", b"none", 0x1020, 0)),
        "remount in namespaces of its own": apart(remount),
        "fsopen": call("fsopen", b"tmpfs", 0),
        "move_mount": call("move_mount", -1, b"", -1, b"", 0x4),
        "pivot_root": call("pivot_root", b"/nonsense", b"/nonsense"),
        "chroot": apart(lambda: attempt(lambda: os.chroot("/"))),
        "open_by_handle_at": call("open_by_handle_at", folder, bytes(16), 0),
        "keyctl": call("keyctl", 0, -4, 0),
        "add_key": call("add_key", b"user", b"probe", b"x", 1, -1),
        "bpf": call("bpf", 0, bytes(72), 72),
        "perf_event_open": call("perf_event_open", attributes, 0, -1, -1, 0),
        "io_uring_setup": call("io_uring_setup", 1, bytes(120)),
        "userfaultfd": call("userfaultfd", 0),
        "kexec_load": call("kexec_load", 0, 0, 0, 0x7FFF),
        "init_module": call("init_module", b"nonsense", 8, b""),
        "settimeofday": call("settimeofday", 0, 0),
        "reboot": call("reboot", 0, 0, 0, 0),
        "swapon": call("swapon", b"/nonsense", 0),
        "quotactl": call("quotactl", 0x800002 << 8, b"/nonsense", 0, 0),
        "syslog": call("syslog", 10, 0, 0),
        "sethostname": attempt(lambda: socket.sethostname(socket.gethostname())),
        "mknod of a disk": device(),
    }
    os.close(folder)
    return found


def enter() -> str:
    """Enter the namespace of process 1, which is this one's own, unless that is forbidden."""
    with Path("/proc/1/ns/uts").open() as file:
        return call("setns", file.fileno(), 0)


def remount() -> str:
    """Make the root writable where this process has all rights: in users and mounts of its own."""
    outcome = call("unshare", NAMESPACES["user"] | NAMESPACES["mount"])
    return outcome if outcome != "done" else call("mount", b"none", b"/", b"none", 0x1020, 0)


def clone_users() -> str:
    """Start a process with users of its own, by the call whose arguments no filter can read."""
    size = 8
    arguments = bytearray(8 * size)
    arguments[:size] = NAMESPACES["user"].to_bytes(size, sys.byteorder)
    arguments[4 * size : 5 * size] = int(signal.SIGCHLD).to_bytes(size, sys.byteorder)
    before = os.getpid()
    outcome = call("clone3", bytes(arguments), len(arguments))
    if os.getpid() != before:
        os._exit(0)
    return outcome


def narrow() -> str:
    """Ask for a namespace of mounts as a program of 32 bits does, through `int 0x80`."""
    if not X86:
        return "EPERM"  # there is no such gate
    code = b"\x53\x89\xfb\xb8" + UNSHARE_OF_32_BITS.to_bytes(4, "little") + b"\xcd\x80\x5b\xc3"
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    found = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(at)(NAMESPACES["mount"])
    return "done" if found >= 0 else errno.errorcode[-found]


def device() -> str:
    path = Path("/tmp/disk")
    made = attempt(lambda: os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(7, 99)))
    path.unlink(missing_ok=True)
    return made


def sockets() -> dict[str, object]:
    """Kinds of sockets that are of no use to a job."""
    kinds = {
        "raw": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP),
        "ping": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "packet": (socket.AF_PACKET, socket.SOCK_RAW, 0x300),
        "AF_ALG": (SOCK_ALG, socket.SOCK_SEQPACKET, 0),
        "AF_VSOCK": (SOCK_VSOCK, socket.SOCK_STREAM, 0),
    }
    found: dict[str, object] = {
        name: attempt(lambda kind=kind: socket.socket(*kind).close())  # type: ignore[misc]
        for name, kind in kinds.items()
    }
    found["files"] = sorted(path for path in files() if stat.S_ISSOCK(os.lstat(path).st_mode))
    listed = Path("/proc/net/unix").read_text().splitlines()[1:]
    found["abstract"] = sorted(line.split()[7] for line in listed if len(line.split()) > 7)
    return found


def special() -> dict[str, object]:
    """Files through which the kernel or the host could be reached. Opened, never written to."""
    reading = ("/dev/mem", "/dev/kmsg", "/proc/kcore", "/proc/kmsg", "/proc/kpageflags", "/dev/fuse",
               "/dev/net/tun", "/dev/kvm", "/dev/loop-control", "/sys/firmware/dmi/tables/DMI")  # fmt: skip
    writing = ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
               "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward",
               "/sys/kernel/uevent_helper", "/sys/fs/cgroup/memory/release_agent",
               "/sys/fs/cgroup/pids/pids.max", "/etc/hosts", "/etc/resolv.conf")  # fmt: skip
    found: dict[str, object] = {}
    for flags, paths in ((os.O_RDONLY, reading), (os.O_WRONLY, writing)):
        for path in paths:
            found[path] = attempt(lambda p=path, f=flags: os.close(os.open(p, f)))  # type: ignore[misc]
    return found


def processes() -> dict[str, object]:
    """What can be seen and touched of other processes."""
    mine = os.getpid()
    others = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    names, foreign, agents, roots = set(), set(), set(), set()
    for pid in others:
        try:
            names.add(Path(f"/proc/{pid}/comm").read_text().strip())
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            root = os.stat(f"/proc/{pid}/root/.")  # noqa: PTH116
        except OSError:
            continue
        foreign |= {str(pid)} if b"GATEWAY=" in environment else set()
        agents |= {pid} if b"orchestrator_agent\0" in line else set()
        roots |= {f"{root.st_dev} {root.st_ino}"}
    here = os.stat("/")  # noqa: PTH116
    return {
        # The wrapper, its timers, run.sh and this.
        "names": sorted(names),
        "with the agent's environment": sorted(foreign),
        "ptrace of an agent": [
            apart(lambda pid=pid: call("ptrace", PTRACE_SEIZE, pid, 0, 0))  # type: ignore[misc]
            for pid in agents - {mine}
        ],
        "memory of an agent": [apart(lambda pid=pid: memory(pid)) for pid in agents - {mine}],  # type: ignore[misc]
        "roots of others": len(roots - {f"{here.st_dev} {here.st_ino}"}),
        # Its own wrapper: whose exit record it could forge, and nobody's but its own.
        "ptrace of process 1, its own": apart(lambda: call("ptrace", PTRACE_SEIZE, 1, 0, 0)),
    }


def memory(pid: int) -> str:
    """Read a little of a process, by the address that its first mapping has."""
    first = int(Path(f"/proc/{pid}/maps").read_text().partition("-")[0], 16)
    room = ctypes.create_string_buffer(4)
    here, there = struct.pack("PN", ctypes.addressof(room), 4), struct.pack("PN", first, 4)
    return call("process_vm_readv", pid, here, 1, there, 1, 0)


def leaks() -> dict[str, object]:
    """Ways out that a container's start has left open: descriptors, folders, cgroups."""
    descriptors = []
    # The one that lists them is closed by the time that it is looked at.
    for name in os.listdir("/proc/self/fd"):
        target = attempt_text(f"/proc/self/fd/{name}")
        if int(name) > 2 and target != "ENOENT":
            descriptors.append(target)
    wrapper = [attempt_text(f"/proc/1/fd/{n}") for n in range(3, 20)]
    groups = Path("/proc/1/cgroup").read_text()
    return {
        "descriptors": sorted(descriptors),
        "descriptors of process 1": sorted(t for t in wrapper if t != "ENOENT"),
        "folder": os.getcwd(),  # noqa: PTH109
        "root of process 1": attempt_text("/proc/1/root"),
        "folder above the root": sorted(set(os.listdir("/..")) - set(os.listdir("/"))),
        "folders through descriptors": outside(),
        "cgroups written": writable_cgroups(groups),
    }


def attempt_text(link: str) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def outside() -> list[str]:
    """Return the descriptors from which a path leads out of the root (as in CVE-2024-21626)."""
    found = []
    for number in range(3, 64):
        path = f"/proc/self/fd/{number}/../../../../etc/hostname"
        if Path(path).exists() and Path(path).read_bytes() != Path("/etc/hostname").read_bytes():
            found.append(str(number))
    return found


def writable_cgroups(groups: str) -> list[str]:
    found = []
    for line in groups.splitlines():
        folder = Path("/sys/fs/cgroup", line.split(":")[1].removeprefix("name="), "probe")
        if attempt(folder.mkdir) == "done":
            folder.rmdir()
            found.append(folder.parent.name)
    return sorted(found)


def mounts() -> list[list[str]]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[:4] for line in lines]


def files(inside: str = "/") -> Iterator[str]:
    """Yield all paths but the kernel's own."""
    for folder, folders, names in os.walk(inside):
        if folder == "/":
            folders[:] = [name for name in folders if name not in {"proc", "sys"}]
        yield from (os.path.join(folder, name) for name in names)  # noqa: PTH118


def secrets() -> dict[str, object]:
    """Credentials, wherever they could lie; the image itself is not searched for their text."""
    image = os.lstat("/usr").st_dev
    names = {"token", "kubeconfig", "config.json", ".dockerconfigjson", "ca.crt", "inputs.zip"}
    named, worded = [], []
    for path in files():
        info = os.lstat(path)
        if os.path.basename(path) in names:  # noqa: PTH119
            named.append(path)
        if stat.S_ISREG(info.st_mode) and info.st_dev != image and holds_token(path):
            worded.append(path)
    folders = ("/token", "/scratch", "/var/run/secrets", "/run/secrets", "/run/containerd", "/data")
    inherited = sorted(
        name for name in os.environ
        if any(word in name.upper() for word in ("GATEWAY", "TOKEN", "SECRET", "ACCESS"))
    )  # fmt: skip
    return {
        "files by name": sorted(named), "files by text": sorted(worded),
        "folders": [path for path in folders if Path(path).exists()], "environment": inherited,
        "/job": sorted(f"{p.name} {stat.filemode(p.lstat().st_mode)}" for p in Path("/job").glob("*")),
    }  # fmt: skip


def holds_token(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return TOKEN in file.read(MOST_BYTES)
    except OSError:
        return False


def writable() -> dict[str, object]:
    """Where something can be written, and what could raise its rights."""
    image = os.lstat("/usr").st_dev
    root = []
    for folder, folders, _ in os.walk("/"):
        folders[:] = [n for n in folders if (folder, n) not in {("/", "proc"), ("/", "sys")}]
        if os.lstat(folder).st_dev != image:
            folders.clear()
        elif attempt(lambda f=folder: Path(f, "probe").touch()) == "done":  # type: ignore[misc]
            Path(folder, "probe").unlink()
            root.append(folder)
    # Devices such as /dev/null are mounts where a pod has users of its own, and files where not.
    points = [words[1] for words in mounts() if words[1] != "/" and not is_device(words[1])]
    return {
        "folders of the image": root[:3],
        "mounts": sorted({p for p in points if not p.startswith(("/proc", "/sys")) and written(p)}),
        "mounts of the kernel": sorted({p for p in points if p.startswith("/sys") and written(p)}),
        "setuid programs": sorted(p for p in files("/usr") if os.lstat(p).st_mode & 0o4000),
    }


def is_device(point: str) -> bool:
    return stat.S_ISCHR(os.lstat(point).st_mode)


def written(point: str) -> bool:
    path = Path(point, "probe") if Path(point).is_dir() else Path(point)
    if path.name != "probe":
        return attempt(lambda: os.close(os.open(path, os.O_WRONLY))) == "done"
    if attempt(lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY))) != "done":
        return False
    path.unlink()
    return True


PARTS: dict[str, Callable[[], dict[str, object]]] = {
    # First, before anything here is opened.
    "leaks": leaks, "rights": rights, "kernel": kernel, "sockets": sockets, "special files": special,
    "processes": processes, "secrets": secrets, "writable": writable,
}  # fmt: skip


def main() -> None:
    print(json.dumps({name: part() for name, part in PARTS.items()}))


if __name__ == "__main__":
    main()
