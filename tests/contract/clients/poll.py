"""A portal's polling loop: upload, poll until the answer has no status, which is the zip."""

import io
import json
import sys
import time
import urllib.request
import zipfile

from tests.contract.clients.form import upload

server, service = sys.argv[1:]
job = upload(server, service, {"run.sh": "echo 42 > answer.txt"})
while True:
    with urllib.request.urlopen(f"{server}/download/{job['id']}") as answer:
        body = answer.read()
    try:
        status = json.loads(body).get("status")
    except ValueError:
        break
    if status in {"Failed", "Killed", "Invalid", "Cleaned"}:
        sys.exit(f"the job ended as {status}")
    time.sleep(0.5)
print(zipfile.ZipFile(io.BytesIO(body)).read("answer.txt").decode().strip())
