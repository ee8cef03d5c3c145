"""What a job leaves behind on its node: no process, and nothing that the next job could find."""

import json

import pytest

from tests.cluster.place import Place, commands, until
from tests.cluster.test_job import unzip

CANARY = "canary-" + "7f3a9b"
# Wherever a job can write, on file systems and beside them.
LEAVE = f"""
import ctypes, os
for folder in ("/work", "/tmp", "/dev/shm", "/dev/mqueue"):
    try:
        open(folder + "/canary", "w").write("{CANARY}")
    except OSError:
        pass
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(0x7f3a9b, 4096, 0o1666)
ctypes.memmove(libc.shmat(segment, None, 0), b"{CANARY}", {len(CANARY)})
"""
DAEMONS = """
trap '' TERM HUP INT
setsid bash -c "trap '' TERM HUP; exec -a CANARY sleep 300" &
(setsid bash -c "exec -a CANARY sleep 300" &) &
nohup bash -c "trap '' TERM; while :; do exec -a CANARY sleep 300; done" >/dev/null 2>&1 &
python3 -c 'import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.execv("/bin/sleep", ["CANARY", "300"])'
python3 leave.py
until grep -qs CANARY /proc/[0-9]*/cmdline; do sleep 0.1; done
""".replace("CANARY", CANARY)
SEARCH = """
import ctypes, json, os, stat
mark, found = b"canary-" + b"7f3a9b", []
for folder, folders, names in os.walk("/"):
    if folder in ("/proc", "/sys"):
        folders.clear()
    for name in names:
        path = os.path.join(folder, name)
        try:
            if stat.S_ISREG(os.lstat(path).st_mode) and os.lstat(path).st_dev != os.lstat("/usr").st_dev:
                if mark in open(path, "rb").read(1 << 16):
                    found.append(path.split("/")[1])
        except OSError:
            pass
if ctypes.CDLL(None).shmget(0x7f3a9b, 4096, 0o666) >= 0:
    found.append("shared memory")
print(json.dumps(sorted(set(found))))
"""


def processes() -> list[int]:
    """Return every process of this machine that goes by the canary's name."""
    return [pid for pid, words in commands() if words[0].startswith(CANARY)]


def test_daemons_end_with_the_job_however_they_hide(place: Place) -> None:
    files = {"leave.py": LEAVE.encode()}
    number = place.upload(DAEMONS + "touch up; sleep 2", files)
    if place.local:
        until(processes, "they run")
    assert place.wait(number) == "Completed"
    if place.local:
        until(lambda: not processes(), "none of them is left")
    until(lambda: not place.get("pod", f"job-{number}-1"), "the pod is gone")


@pytest.mark.parametrize("own", [True, False], ids=["its own", "another's"])
def test_a_job_finds_only_what_is(place: Place, own: bool) -> None:
    files = {"leave.py": LEAVE.encode(), "search.py": SEARCH.encode()}
    leaves, searches = "python3 leave.py\n", "python3 search.py > found\n"
    if not own:
        # One that is over, and one that still runs, on this very node.
        place.wait(place.upload(leaves, files))
        place.wait(place.upload(leaves + "sleep 60", files), "Running")
        del files["leave.py"]
    number = place.upload((leaves if own else "") + searches, files)
    assert place.wait(number) == "Completed"
    found = json.loads(unzip(place.poll(number).content)["found"])
    expected = {"work", "tmp", "dev", "shared memory"} if own else set()
    assert set(found) == expected
