"""The object store from a job's pod, over real HTTP: nothing of anybody's is read, written or listed."""

import base64
import io
import json
import tarfile
import zlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from minio.credentials.credentials import Credentials
from minio.signer import presign_v4, sign_v4_s3

from local.paths import NAMESPACE, RELEASE
from tests.attack.stranger import Stranger, unguarded
from tests.attack.test_network import ROOMY, in_a_job
from tests.cluster.place import Place, until
from tests.cluster.test_life import service
from tests.cluster.test_store import BUCKET, installed

POLICY = f"{RELEASE}-minio"
# Makes each request of a list (method, path, headers, body) and prints what came back.
ASK = """
import http.client, json, sys
host, calls, found = sys.argv[1], json.loads(sys.argv[2]), []
for method, path, headers, body in calls:
    try:
        connection = http.client.HTTPConnection(host, 9000, timeout=3)
        connection.request(method, path, body.encode(), headers)
        answer = connection.getresponse()
        found.append([answer.status, len(answer.read())])
    except OSError as error:
        found.append([0, 0])
print(json.dumps(found))
"""
FORGED = "forged"

SELECT = """<SelectObjectContentRequest xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Expression>select * from S3Object</Expression><ExpressionType>SQL</ExpressionType>
<InputSerialization><CSV/></InputSerialization><OutputSerialization><CSV/></OutputSerialization>
</SelectObjectContentRequest>"""


def _archive() -> str:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("forged"))
    return made.getvalue().decode("ascii")


def _calls(host: str, keys: dict[str, tuple[str, str]], key: str) -> list[tuple[Any, ...]]:
    """Return requests that each would succeed if the store could be reached."""

    def signed(method: str, target: str, body: str = "", who: str = "api") -> tuple[Any, ...]:
        url = presign_v4(
            method=method,
            url=urlsplit(f"http://{host}:9000/{BUCKET}{target}"),
            region="us-east-1",
            credentials=Credentials(*keys[who]),
            date=datetime.now(UTC),
            expires=3600,
        )
        return (method, f"{url.path}?{url.query}", {}, body)

    def unpacked(who: str) -> tuple[Any, ...]:
        """Return the writing of an archive that is to become the files in it."""
        url = urlsplit(f"http://{host}:9000/{BUCKET}/{key}.tar")
        digest, now = "UNSIGNED-PAYLOAD", datetime.now(UTC)
        headers: dict[str, Any] = {
            "Host": url.netloc,
            "X-Amz-Content-Sha256": digest,
            "X-Amz-Date": now.strftime("%Y%m%dT%H%M%SZ"),
            "X-Amz-Meta-Snowball-Auto-Extract": "true",
        }
        headers = sign_v4_s3(
            method="PUT", url=url, region="us-east-1", headers=headers,
            credentials=Credentials(*keys[who]), content_sha256=digest, date=now,
        )  # fmt: skip
        return ("PUT", url.path, headers, _archive())

    # Written by nobody, which this server takes from whoever knows the id of a key.
    credential = f"{keys['api'][0]}%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
    checksum = base64.b64encode(zlib.crc32(FORGED.encode()).to_bytes(4, "big")).decode()
    body = f"{len(FORGED):x}\r\n{FORGED}\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n"
    headers = {
        "Content-Encoding": "aws-chunked",
        "X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "X-Amz-Decoded-Content-Length": str(len(FORGED)),
        "X-Amz-Trailer": "x-amz-checksum-crc32",
    }
    return [
        # As if a URL that was signed for somebody else had leaked.
        signed("GET", f"/{key}"),
        signed("HEAD", ""),
        signed("GET", "?list-type=2&prefix="),
        # What other ways lead to the same: a query of a file, and an archive that becomes files.
        signed("PUT", f"/{key}.csv", body="a,b\n", who="root"),
        signed("POST", f"/{key}.csv?select=&select-type=2", body=SELECT, who="root"),
        unpacked("root"),
        # The API's key writes nothing by a name of others.
        unpacked("api"),
        ("PUT", f"/{BUCKET}/{key}?X-Amz-Credential={credential}", headers, body),
        ("GET", "/minio/health/live", {}, ""),
    ]


def test_no_job_and_no_stranger_reaches_the_object_store(place: Place, stranger: Stranger) -> None:
    number = place.upload("echo secret > result")
    assert place.wait(number) == "Completed"
    results = place.poll(number).content
    host = place.get("service", f"{RELEASE}-minio", NAMESPACE)["spec"]["clusterIP"]
    calls = _calls(host, installed(place), place.job(number)["status"]["results"]["key"])
    words = (host, json.dumps(calls))
    nothing = [[0, 0]] * len(calls)
    thief = service(place, "thief", resources=ROOMY)
    assert in_a_job(place, thief, ASK, *words) == nothing
    assert stranger.run(ASK, *words) == nothing
    assert place.poll(number).content == results

    # Without the policy of the store, the same succeeds from outside, and still not from a job.
    with unguarded(place, POLICY, NAMESPACE):
        reached = until(
            lambda: (found := stranger.run(ASK, *words)) != nothing and found, "it is reached"
        )
        assert in_a_job(place, thief, ASK, *words) == nothing
    assert [status for status, _ in reached] == [200, 200, 200, 200, 200, 200, 403, 200, 200]
    assert reached[0][1] == len(results)
    # What was forged is not served.
    answer = place.poll(number)
    assert answer.status_code >= 400, answer.headers
    until(lambda: stranger.run(ASK, *words) == nothing, "the store is shut off again")
