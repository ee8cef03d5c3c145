"""A portal that lets its users cancel: upload, wait until it runs, terminate, see it killed."""

import json
import sys
import time
import urllib.request

from tests.contract.clients.form import upload

server, service = sys.argv[1:]
job = upload(server, service, {"run.sh": "sleep 300"})


def status() -> str:
    with urllib.request.urlopen(f"{server}/download/{job['id']}") as answer:
        return str(json.load(answer)["status"])


while status() != "Running":
    time.sleep(0.5)
request = urllib.request.Request(f"{server}/terminate/{job['id']}", method="POST")
with urllib.request.urlopen(request) as answer:
    assert json.load(answer)["message"] == "job terminated"
while (now := status()) != "Killed":
    time.sleep(0.5)
print(now)
