"""A portal that shows results as they come: partial downloads while it runs, then the final one."""

import io
import json
import sys
import time
import urllib.error
import urllib.request
import zipfile

from tests.contract.clients.form import upload

server, service = sys.argv[1:]
job = upload(server, service, {"run.sh": "echo 1 > first.txt; sleep 12; echo 2 > second.txt"})


def fetch(path: str) -> bytes:
    try:
        with urllib.request.urlopen(f"{server}/{path}/{job['id']}") as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError:
        return b""  # not there yet


def names(data: bytes) -> list[str]:
    try:
        return zipfile.ZipFile(io.BytesIO(data)).namelist()
    except zipfile.BadZipFile:
        return []


while "first.txt" not in (early := names(fetch("download_partial"))):
    time.sleep(0.5)
assert "second.txt" not in early
while True:
    final = fetch("download")
    try:
        assert json.loads(final)["status"] not in {"Failed", "Killed", "Invalid", "Cleaned"}
    except ValueError:
        break
    time.sleep(0.5)
print(sorted(set(names(final)) - {"run.sh", ".orchestrator.exit"}))
