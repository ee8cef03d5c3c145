"""A run.sh that tries whatever could lead out of its container: everything is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attack.stranger import Stranger
from tests.cluster.place import Place
from tests.cluster.test_job import unzip

PROBE = (Path(__file__).parent / "probe.py").read_text()
# What comes out otherwise where nothing guards, by part of the table.
OPEN_ELSEWHERE = {
    "leaks": {"descriptors of process 1", "folder", "cgroups written"},
    "rights": {"CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "uids", "gids", "setuid 0",
               "setgid 0", "setgroups 0", "capset", "su", "priority"},
    "kernel": {"unshare user", "unshare mount", "unshare net", "unshare pid", "clone3",
               "unshare by the gate for 32 bits", "setns of process 1", "mount", "remount", "fsopen",
               "remount in namespaces of its own",
               "move_mount", "pivot_root", "chroot", "open_by_handle_at", "keyctl", "add_key", "bpf",
               "perf_event_open", "io_uring_setup", "userfaultfd", "kexec_load", "init_module",
               "settimeofday", "reboot", "swapon", "quotactl", "syslog", "sethostname",
               "mknod of a disk"},
    "sockets": {"raw", "ping", "packet", "AF_ALG", "AF_VSOCK"},
    "special files": {"/proc/kmsg", "/proc/kpageflags", "/proc/sys/kernel/core_pattern", "/etc/hosts",
                      "/etc/resolv.conf", "/proc/sys/vm/overcommit_memory",
                      "/proc/sys/net/ipv4/ip_forward"},
    "processes": {"names", "with the agent's environment", "ptrace of an agent",
                  "memory of an agent", "roots of others"},
    "secrets": {"files by name", "files by text", "folders", "environment", "/job"},
    "writable": {"folders of the image", "mounts", "mounts of the kernel"},
}  # fmt: skip
# And what shows nothing of the guards, since it comes out the same without them, here or on some
# machine: holes of runtimes that this one has not, devices and files that a machine may not have,
# programs that the image has not, and what a job may do.
SHOWS_NOTHING = {
    "leaks": {"descriptors", "root of process 1", "folder above the root",
              "folders through descriptors"},
    "rights": {"CapInh", "CapAmb", "sudo", "real time", "oom score", "more files"},
    "kernel": {"unshare by numbers of x32"},
    "sockets": {"files", "abstract"},
    "special files": {"/dev/mem", "/dev/kmsg", "/proc/kcore", "/dev/fuse", "/dev/net/tun", "/dev/kvm",
                      "/dev/loop-control", "/sys/firmware/dmi/tables/DMI", "/proc/sysrq-trigger",
                      "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper",
                      "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/pids/pids.max"},
    "processes": {"ptrace of process 1, its own"},
    "writable": {"setuid programs"},
}  # fmt: skip


def probed(place: Place, name: str = "example") -> dict[str, Any]:
    files = {"probe.py": PROBE.encode()}
    number = place.upload("exec python3 probe.py > table", files, service=name)
    assert place.wait(number) == "Completed", place.poll(number).text
    found: dict[str, Any] = json.loads(unzip(place.poll(number).content)["table"])
    return found


def test_whatever_a_job_tries_is_refused(place: Place, golden: Callable[[str, Any], None]) -> None:
    golden("probe.yaml", probed(place))


def test_the_same_tries_succeed_where_nothing_guards(
    place: Place, stranger: Stranger, golden: Callable[[str, Any], None]
) -> None:
    guarded, open_ = probed(place), stranger.run(PROBE)
    same = {part: {row for row in rows if guarded[part][row] == open_[part][row]}
            for part, rows in OPEN_ELSEWHERE.items()}  # fmt: skip
    assert not any(same.values()), same
    known = {part: OPEN_ELSEWHERE[part] | SHOWS_NOTHING.get(part, set()) for part in OPEN_ELSEWHERE}
    assert {part: set(rows) for part, rows in guarded.items()} == known
