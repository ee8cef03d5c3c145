"""A corpus of run.sh that turn on the agent through /job, and the end that each must come to.

Name → script, why it ended in the agent's words, and with which code.
"""

FIFOS = "log progress stop go gate"


def _python(text: str) -> str:
    return f"python3 -c '\nimport os\njob = os.environ[\"J\"]\n{text}\n'\n"


_INSTEAD = f'cd "$J" && for f in {FIFOS}; do rm -f $f; %s; done; cd "$OLDPWD"; exit 5'
_SCRIPTS: dict[str, tuple[str, str, int]] = {
    "puts files there instead": (_INSTEAD % "echo 0 > $f", "exit", 5),
    "puts folders there instead": (_INSTEAD % "mkdir $f", "exit", 5),
    "puts endless files there instead": (_INSTEAD % "ln -s /dev/zero $f", "exit", 5),
    "puts other FIFOs there instead": (_INSTEAD % "mkfifo $f", "exit", 5),
    "takes all away": ('rm -rf "$J"/*; exit 5', "exit", 5),
    "closes all to everybody": ('chmod 000 "$J"/* "$J"; exit 5', "exit", 5),
    "leaves its own exit file": ("ln -s /dev/zero $J/exit; echo 0 > exit; exit 5", "exit", 5),
    "writes megabytes": (
        f'for f in {FIFOS}; do timeout 1 sh -c "head -c 20000000 /dev/zero > $J/$f"; done; exit 5',
        "exit", 5,
    ),
    "says all that the wrapper could say": (
        'for w in start exit disk deadline terminated; do echo "$w 0 0" > $J/gate; done; exit 5',
        "exit", 5,
    ),
    "begins the wrapper's last line": ('printf "exit 0 0" > $J/gate; exit 5', "exit", 5),
    "fills the line before": ('head -c 5000 /dev/zero > $J/gate; exit 5', "exit", 5),
    "reads what is for others": ('for f in stop gate go; do timeout 1 cat $J/$f; done; exit 5', "exit", 5),
    "holds the gate when it ends": (
        "(setsid sh -c 'exec 9>$J/gate; sleep 60' &); sleep 0.3; exit 5", "exit", 5,
    ),
    "says that its pod is to end": ("echo end > $J/stop; sleep 30", "exit", 143),
    "says that it has too much disk": ("echo disk > $J/stop; sleep 30", "disk", 143),
    "says other words, and then that one": (
        "for w in x ende '' disk; do echo $w > $J/stop; done; sleep 30", "disk", 143,
    ),
    "opens the start once more": ("timeout 1 sh -c 'echo now > $J/go'; exit 5", "exit", 5),
    "makes thousands of files": (
        _python("for n in range(20000):\n    open(f\"{job}/{n}\", \"w\").close()") + "exit 5", "exit", 5,
    ),
    "floods a pipe of a megabyte": (
        _python("import fcntl\nlog = os.open(f\"{job}/log\", os.O_WRONLY)\nfcntl.fcntl(log, 1031, 1 << 20)\n"
                "for n in range(400):\n    os.write(log, b\"x\" * 100000)") + "exit 5",
        "exit", 5,
    ),
    "tells progress of no kind": (
        "head -c 100000 /dev/urandom > $J/progress; printf '\\033[2J\\n' > $J/progress; exit 5", "exit", 5,
    ),
}  # fmt: skip
CORPUS = {
    name: ("export J=${ORCHESTRATOR_JOB_FOLDER:-/job}\n" + script, why, code)
    for name, (script, why, code) in _SCRIPTS.items()
}
