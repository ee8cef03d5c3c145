"""A run.sh that puts links where its files were, again and again, while its agent packs them."""

import json
import re

import httpx2

from local.paths import JOBS_NAMESPACE
from tests.cluster.place import Place, until
from tests.cluster.test_job import unzip

TOKEN = re.compile(rb"ey" + rb"JhbGci")
# Every name is a file of the job's own at one moment, and a way to something of the agent's at the
# next; so is a folder on the way to a file.
SWAP = """
import ctypes, os
TARGETS = ("/token/token", "/proc/self/environ", "/proc/1/environ", "/proc/self/mem", "/etc/passwd",
           "/var/run/secrets/kubernetes.io/serviceaccount/token", "/dev/zero", "/job/gate", "..")
AT_FDCWD, EXCHANGE = -100, 2
exchange = ctypes.CDLL(None).renameat2
os.mkdir("folder"), os.symlink("/token", "way")
open("folder/token", "w").write("mine")
for n, target in enumerate(TARGETS):
    open(f"file{n}", "w").write("mine")
    os.symlink(target, f"link{n}")
open("ready", "w").write("mine")
for turn in range(1 << 60):
    for n in range(len(TARGETS)):
        exchange(AT_FDCWD, b"file%d" % n, AT_FDCWD, b"link%d" % n, EXCHANGE)
    exchange(AT_FDCWD, b"folder", AT_FDCWD, b"way", EXCHANGE)
    if turn % 1000 == 0:
        open("turn", "w").write(str(turn))
        if os.path.exists("/work/enough"):
            break
"""
MINE = re.compile(rb"(mine)?|\d+")
OURS = {"run.sh", "swap.py"}
ZIPS = 4
# What the agent would find, were it to follow.
FOLLOW = "print(open('/work/lead').read(), open('/proc/self/environ').read())"


def test_no_zip_holds_what_a_link_led_to(place: Place) -> None:
    script = "ln -s /token/token lead; exec python3 swap.py"
    number = place.upload(script, {"swap.py": SWAP.encode()})
    place.wait(number, "Running")
    pod, zips = f"job-{number}-1", set[bytes]()
    partial = f"{place.front}/download_partial/{number}"

    def look() -> bool:
        answer = httpx2.get(partial, timeout=60)
        # Before there is one, that are the inputs.
        if answer.headers["content-type"] == "application/zip" and "ready" in unzip(answer.content):
            zips.add(answer.content)
        return len(zips) >= ZIPS

    until(look, f"there were {ZIPS} snapshots", 120)
    into = ("exec", pod, f"--namespace={JOBS_NAMESPACE}")
    # The counter-proof: whoever follows in the agent's place is led to its token.
    led = place.kubectl(*into, "--container=agent", "--", "python3", "-c", FOLLOW)
    assert TOKEN.search(led.encode())
    place.kubectl(*into, "--container=main", "--", "touch", "/work/enough")
    assert place.wait(number) == "Completed"
    zips.add(place.poll(number).content)

    for bundle in zips:
        files = unzip(bundle)
        found = {
            name: data for name, data in files.items()
            if name not in OURS and not name.startswith("orchestrator") and not MINE.fullmatch(data)
        }  # fmt: skip
        assert not found, json.dumps({name: repr(data[:80]) for name, data in found.items()})
        assert any(name.startswith(("file", "link")) for name in files)
        assert not any(TOKEN.search(data) or b"GATEWAY=" in data for data in files.values())
