"""Gives the chart's MinIO its bucket, and API and operator a least key each.

Runs beside the server in its pod, the only one that has root's key:
`python -m orchestrator_wire.accounts FOLDER ENDPOINT BUCKET DONE`. FOLDER has the files `accessKey`
and `secretKey` in a folder each for `root`, `api` and `operator`, and `policy.json` for the
latter two. DONE is a file that is made once all is there.
"""

import json
import logging
import signal
import sys
import time
from pathlib import Path

import urllib3
from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, MinioException

log = logging.getLogger("orchestrator_accounts")
PARTS = ("api", "operator")
PAUSE_SECONDS = 0.5


def set_up(folder: Path, endpoint: str, bucket: str) -> None:
    """Make bucket, keys and policies, or change them to what they should be.

    Raises MinioException, MinioAdminException or urllib3's HTTPError while the server is not there.
    """
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=3.0, read=10.0), retries=False)
    root = StaticProvider(*_key(folder / "root"))
    store = Minio(endpoint, credentials=root, secure=False, http_client=pool)
    if not store.bucket_exists(bucket):
        store.make_bucket(bucket)
    admin = MinioAdmin(endpoint=endpoint, credentials=root, secure=False, http_client=pool)
    policies: dict[tuple[str, str], list[str]] = {}
    for part in PARTS:
        admin.policy_add(f"orchestrator-{part}", policy=_policy(folder / part, bucket))
        # One key may be that of both.
        policies.setdefault(_key(folder / part), []).append(f"orchestrator-{part}")
    for key, names in policies.items():
        admin.user_add(*key)
        admin.policy_set(",".join(names), user=key[0])


def _key(folder: Path) -> tuple[str, str]:
    return (folder / "accessKey").read_text(), (folder / "secretKey").read_text()


def _policy(folder: Path, bucket: str) -> dict[str, object]:
    text = (folder / "policy.json").read_text()
    policy: dict[str, object] = json.loads(text.replace("BUCKET", bucket))
    return policy


def main() -> None:
    """Set up as soon as the server answers, say so in a file, and wait for the pod's end."""
    # As the first process of its container it would not hear the signal otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    folder, endpoint, bucket, done = sys.argv[1:]
    while True:
        try:
            set_up(Path(folder), endpoint, bucket)
        except (MinioException, MinioAdminException, urllib3.exceptions.HTTPError) as error:
            log.warning("Not yet, trying again: %s", error)
            time.sleep(PAUSE_SECONDS)
        else:
            break
    Path(done).touch()
    log.info("Bucket %s and the keys of operator and API are there.", bucket)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
