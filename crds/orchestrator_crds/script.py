"""The script policy: suspicious commands in run.sh, by kind, as the old orchestrator looked for.

A check of manners, not a sandbox: whoever means it gets past any list of patterns, and what keeps
a job in is its pod. Comments are not looked at.
"""

import re
from collections.abc import Iterator
from itertools import islice

from orchestrator_crds.text import tame

# No pattern looks further than a few hundred characters, so that time grows with the length alone.
# What is longer than this is not looked at, and so is a finding itself: it could hide anything.
LONGEST_SCRIPT = 1 << 18
LONGEST_LINE = 2048
# So much of a script tells whether it is longer, whatever its characters take.
ENOUGH_BYTES = 4 * LONGEST_SCRIPT + 1
MOST_FINDINGS = 20


# Not the end of a longer word, option or path.
_COMMAND = r"(?<![\w./-])"


def _words(words: str) -> str:
    """Return a pattern for any of *words* on its own."""
    return rf"{_COMMAND}(?:{'|'.join(words.split())})(?![\w./=-])"


# Places outside of the job's own: absolute, or the home folder.
_OUTSIDE = r"(?:[\"']?(?:/(?!tmp/|work/|dev/null)|~|\$\{?HOME))"
# By kind; the command comes first in what a pattern matches.
PATTERNS: dict[str, tuple[str, ...]] = {
    "destructive command": (
        rf"{_COMMAND}rm\s[^;|&]{{0,200}}?(?<=\s){_OUTSIDE}",
        rf"{_COMMAND}mkfs(?:\.\w+)?(?![\w/])",
        rf"{_COMMAND}dd\s[^;|&]{{0,200}}?\b(?:of=/dev/(?!null)|if=/dev/(?:zero|u?random))",
    ),
    "system file": (r"/etc/(?:passwd|shadow|sudoers)\b", r"(?<![\w.])/(?:proc|sys|root)/"),
    "secret": (
        r"(?:~|\$\{?HOME\}?)/\.(?:ssh|aws|kube|docker|gnupg)\b",
        r"\$\{?(?:AWS_\w*|\w*(?:SECRET|TOKEN|PASSWORD|API_KEY))\b",
    ),
    "network tool": (_words("curl wget nc ncat netcat socat ssh scp sftp ftp telnet rsync"),),
    "reverse shell": (r"/dev/(?:tcp|udp)/",),
    "privilege escalation": (
        _words("sudo su doas pkexec chown setcap"),
        rf"{_COMMAND}chmod\s+(?:-\w+\s+)*(?:[2467][0-7]{{3}}\b|0?777\b|[ugoa]*\+[rwxX]*s)",
    ),
    "container escape": (
        _words("chroot nsenter unshare mount umount docker podman kubectl crictl"),
        r"/(?:var/)?run/(?:docker|containerd/containerd)\.sock\b",
    ),
    "kernel": (_words("sysctl modprobe insmod rmmod iptables nft nftables bpftool"),),
    "obfuscation": (
        r"\bbase64\b[^;&|]{0,200}\|\s*(?:ba|da|z|k)?sh\b",
        rf"{_COMMAND}eval\s",
        r"(?<![\w.-])(?:python[0-9.]*\s+-c|perl\s+-[eE]|ruby\s+-e)(?![\w-])",
    ),
    "persistence": (
        _words("crontab systemctl"),
        r"(?:^|[;&|]\s*)(?:at|batch|service)\s+\S",
        r"/etc/(?:cron|rc\.local|systemd|init\.d)",
    ),
    "fork bomb": (r"(?<![\w:])(\w{1,40}|:)\s*\(\)\s*\{[^}]{0,100}?\1\s*\|\s*\1",),
    "exhaustion": (_words("stress stress-ng"),),
    "miner": (
        _words("xmrig minerd cpuminer ethminer cgminer bfgminer"),
        r"\bstratum\+(?:tcp|ssl)://",
    ),
}
_COMPILED = tuple(
    (kind, re.compile(pattern)) for kind, patterns in PATTERNS.items() for pattern in patterns
)
_COMMENT = re.compile(r"(?:^|\s)#.*")


def findings(text: str) -> tuple[str, ...]:
    """Return what is suspicious in a script, such as `line 3: network tool (curl)`, in order."""
    return tuple(tame(found) for found in islice(_all(text), MOST_FINDINGS))


def _all(text: str) -> Iterator[str]:
    for number, line in enumerate(text[:LONGEST_SCRIPT].splitlines(), 1):
        for kind, what in _in_line(line):
            yield f"line {number}: {kind} ({what})"
    if len(text) > LONGEST_SCRIPT:
        yield f"too long: only the first {LONGEST_SCRIPT} characters were looked at"


def _in_line(line: str) -> Iterator[tuple[str, str]]:
    if len(line) > LONGEST_LINE:
        yield "too long", f"only its first {LONGEST_LINE} characters were looked at"
    code = _COMMENT.sub("", line[:LONGEST_LINE])
    for kind, pattern in _COMPILED:
        if match := pattern.search(code):
            yield kind, " ".join(match[0].split())[:80]
