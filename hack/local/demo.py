"""The main job, from two proteins to a score: what a portal does, step by step, with times."""

import io
import json
import re
import time
import urllib.request
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from local.cluster import kubectl
from local.paths import EXAMPLES, FRONT
from local.steps import StepFailed, console

FILES = ("run.sh", "2oob_A.pdb", "2oob_B.pdb")
PATIENCE_SECONDS = 120
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Seen:
    """What a poll told, and how many seconds after the upload began."""

    status: str
    seconds: float


def multipart(fields: dict[str, str], files: list[Path]) -> tuple[bytes, str]:
    """Return (body, Content-Type) of a form, as curl -F would send it."""
    mark = uuid.uuid4().hex
    body = bytearray()
    for name, value in fields.items():
        body += f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        body += f"{value}\r\n".encode()
    for file in files:
        disposition = f'form-data; name="file"; filename="{file.name}"'
        body += f"--{mark}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
        body += file.read_bytes() + b"\r\n"
    body += f"--{mark}--\r\n".encode()
    return bytes(body), f"multipart/form-data; boundary={mark}"


def _fetch(path: str, body: bytes | None = None, kind: str = "") -> tuple[str, bytes]:
    request = urllib.request.Request(  # noqa: S310  (our own front door)
        FRONT + path, data=body, headers={"Content-Type": kind} if kind else {}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return answer.headers.get_content_type(), answer.read()


def run() -> int:
    """Dock ubiquitin with its ligase's domain, and print how it went; returns the exit code."""
    folder = EXAMPLES / "docking"
    started = time.monotonic()
    form = multipart({"user_id": "1", "service": "docking"}, [folder / name for name in FILES])
    _, answer = _fetch("/upload", *form)
    job_id = int(json.loads(answer)["id"])
    seen = [Seen("uploaded", time.monotonic() - started)]
    while True:
        kind, body = _fetch(f"/download/{job_id}")
        status = "Completed" if kind == "application/zip" else json.loads(body)["status"]
        if status != seen[-1].status:
            seen.append(Seen(status, time.monotonic() - started))
        if kind == "application/zip":
            break
        if status in {"Failed", "Invalid", "Killed"}:
            raise StepFailed(f"The job became {status}: {json.loads(body)['message']}")
        if time.monotonic() - started > PATIENCE_SECONDS:
            raise StepFailed(f"The job is still {status} after {PATIENCE_SECONDS} s.")
        time.sleep(POLL_SECONDS)
    _report(job_id, seen, body)
    return 0


def _report(job_id: int, seen: list[Seen], body: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        log = archive.read("gdock.log").decode()
        members = archive.infolist()
    score = re.search(r"total\s+(-?[\d.]+)", log)
    if score is None:
        raise StepFailed(f"gdock.log holds no total score:\n{log}")
    table = Table(title=f"Job {job_id}: two proteins, their fit scored", title_justify="left")
    table.add_column("seen by polling")
    table.add_column("after", justify="right")
    for moment in seen:
        table.add_row(moment.status, f"{moment.seconds:.2f} s")
    console.print(table)
    names = ", ".join(m.filename for m in members)
    console.print(f"results zip: {len(body)} bytes, {names}")
    print(f"docking score of 2OOB: {score[1]}", flush=True)
    columns = kubectl("get", "orchestratorjobs", "--all-namespaces", "--output=wide")
    console.print(f"\n$ hack/kubectl get orchestratorjobs -A -o wide\n{columns}", markup=False)
    console.print(_NEXT.format(front=FRONT, next_id=job_id + 1), markup=False)


_NEXT = """\
Three things to try next:
  1. A job of your own:
       echo 'echo hello; sleep 20' > run.sh
       curl -F file=@run.sh -F user_id=1 -F service=example {front}/upload
       curl {front}/download/{next_id}            # JSON while it runs, then the zip
  2. Let one job run at a time, submit three, and see the others say why they wait:
       hack/kubectl patch orchestratorquota default -n orchestrator-jobs --type=merge \\
         -p '{{"spec": {{"maxRunning": 1}}}}'
       hack/kubectl get orchestratorjobs -A -w
  3. The manual of every field:
       hack/kubectl explain orchestratorservice.spec

The system stays up at {front}. Take it down with: hack/down"""
