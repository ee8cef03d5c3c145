"""What each key to the object store may do there, and encryption by it, on a real MinIO."""

import base64
import io
import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2
import pytest
from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, S3Error

from local.paths import CHART, NAMESPACE, RELEASE
from local.toolchain import BIN
from orchestrator_api.__main__ import REFUSES
from orchestrator_crds.names import BOOKS_KEY, object_key, partial_key, record_key, results_key
from orchestrator_wire import errors
from orchestrator_wire.accounts import PARTS, set_up
from orchestrator_wire.s3 import Location, Store
from orchestrator_wire.unsigned import PREFIX
from orchestrator_wire.uploads import PART_BYTES
from tests.cluster.place import Place, until

BUCKET, OTHER = "orchestrator", "somebody-elses"
KMS_KEY, ENCRYPTION = "jobs", "x-amz-server-side-encryption"
FOLDER, NUMBER = "keys-that-are-tried", 2**31 - 1
OBJECTS = {
    "inputs": object_key(FOLDER, "inputs.zip"),
    "partial": partial_key(FOLDER, 1),
    "results": results_key(FOLDER, 1),
    "another": object_key(FOLDER, "another"),
    "record": record_key(NUMBER),
    "books": BOOKS_KEY,
    "self-test": f"{PREFIX}{FOLDER}",
    "elsewhere": FOLDER,
}
MAY = {
    "api": {
        "list", "read inputs", "write inputs", "delete inputs", "read partial", "write partial",
        "read results", "write results", "read record", "write self-test", "delete self-test",
    },
    "operator": {
        "list", "list uploads", "delete inputs", "delete partial", "delete results",
        "delete another", "read record", "write record", "delete record", "read books",
        "write books",
    },
}  # fmt: skip


@dataclass
class Server:
    """An object store, and the keys to it: access key and secret key of root, API and operator."""

    endpoint: str
    keys: dict[str, tuple[str, str]]

    def client(self, who: str) -> Minio:
        return Minio(self.endpoint, *self.keys[who], secure=False, region="us-east-1")

    def admin(self, who: str) -> MinioAdmin:
        provider = StaticProvider(*self.keys[who])
        return MinioAdmin(endpoint=self.endpoint, credentials=provider, secure=False)

    def store(self, who: str, **more: str) -> Store:
        return Store.connect(
            Location(self.endpoint, "us-east-1", BUCKET, *self.keys[who], secure=False, **more)
        )


def _put(client: Minio, key: str, bucket: str = BUCKET) -> None:
    client.put_object(bucket, key, io.BytesIO(b"x"), 1)


def _get(client: Minio, key: str, bucket: str = BUCKET) -> None:
    client.get_object(bucket, key).close()


def _calls(client: Minio, admin: MinioAdmin) -> dict[str, Callable[[], Any]]:
    """Return everything that is tried, by its name."""
    calls: dict[str, Callable[[], Any]] = {}
    for name, key in OBJECTS.items():
        calls |= {
            f"read {name}": partial(_get, client, key),
            f"write {name}": partial(_put, client, key),
            f"delete {name}": partial(client.remove_object, BUCKET, key),
        }
    return calls | {
        "list": lambda: list(client.list_objects(BUCKET)),
        "list uploads": lambda: client._list_multipart_uploads(BUCKET),
        "list another bucket": lambda: list(client.list_objects(OTHER)),
        "read another bucket": partial(_get, client, FOLDER, OTHER),
        "write another bucket": partial(_put, client, FOLDER, OTHER),
        "make a bucket": lambda: client.make_bucket(f"{OTHER}-too"),
        "delete the bucket": lambda: client.remove_bucket(BUCKET),
        "read its policy": lambda: client.get_bucket_policy(BUCKET),
        "delete its policy": lambda: client.delete_bucket_policy(BUCKET),
        "read its lifecycle": lambda: client.get_bucket_lifecycle(BUCKET),
        "delete its lifecycle": lambda: client.delete_bucket_lifecycle(BUCKET),
        "list users": admin.user_list,
        "make a user": lambda: admin.user_add(FOLDER, secrets.token_hex(10)),
        "ask about the server": admin.info,
    }


def _allowed(call: Callable[[], Any]) -> bool:
    """Tell whether a call is allowed; it need not succeed: the bucket is not empty, say."""
    try:
        call()
    except (S3Error, MinioAdminException) as error:
        status = error.response.status if isinstance(error, S3Error) else int(error._code)
        if status not in {403, 404, 409}:
            raise
        return status != 403
    return True


def allowed(server: Server, who: str) -> set[str]:
    """Return the names of the calls that a key may make, each with everything in its place."""
    root, found = server.client("root"), set()
    for name, call in _calls(server.client(who), server.admin(who)).items():
        for key in OBJECTS.values():
            if key != BOOKS_KEY:
                _put(root, key)
        if _allowed(call):
            found.add(name)
    return found


def check(server: Server) -> None:
    """Compare what each key may do with what it should; root's shows that all of it can be done."""
    root = server.client("root")
    try:
        books = root.get_object(BUCKET, BOOKS_KEY).read()
    except S3Error:
        books = b"{}"
    root.make_bucket(OTHER)
    try:
        _put(root, FOLDER, OTHER)
        for who, may in MAY.items():
            assert allowed(server, who) == may
            assert OTHER not in {b.name for b in server.client(who).list_buckets()}
        everything = set(_calls(root, server.admin("root")))
        assert allowed(server, "root") == everything
        assert OTHER in {b.name for b in root.list_buckets()}
    finally:
        root.put_object(BUCKET, BOOKS_KEY, io.BytesIO(books), len(books))
        for key in set(OBJECTS.values()) - {BOOKS_KEY}:
            root.remove_object(BUCKET, key)
        root.remove_object(OTHER, FOLDER)
        for bucket in (OTHER, f"{OTHER}-too"):
            if root.bucket_exists(bucket):
                root.remove_bucket(bucket)
        if FOLDER in server.admin("root").user_list():
            server.admin("root").user_remove(FOLDER)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a MinIO that can encrypt on a loopback port, with the accounts that the chart gives it."""
    folder = tmp_path_factory.mktemp("store")
    keys = {who: (secrets.token_hex(10), secrets.token_hex(20)) for who in ("root", *PARTS)}
    for who, (access, secret) in keys.items():
        (folder / who).mkdir()
        (folder / who / "accessKey").write_text(access)
        (folder / who / "secretKey").write_text(secret)
    for part in PARTS:
        policy = (CHART / f"files/policies/{part}.json").read_text()
        (folder / part / "policy.json").write_text(policy)
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {
        "MINIO_ROOT_USER": keys["root"][0],
        "MINIO_ROOT_PASSWORD": keys["root"][1],
        "MINIO_KMS_SECRET_KEY": f"{KMS_KEY}:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "MINIO_BROWSER": "off",
        # Else it refuses a folder on the file system of the root.
        "MINIO_CI_CD": "1",
    }
    process = subprocess.Popen(
        [str(BIN / "minio"), "server", str(folder / "data"), "--address", endpoint],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: _is_up(endpoint), "MinIO answers")
        # Twice, as at every start of its pod.
        for _ in range(2):
            set_up(folder, endpoint, BUCKET)
        yield Server(endpoint, keys)
    finally:
        process.terminate()
        process.wait()


def _is_up(endpoint: str) -> bool:
    try:
        return httpx2.get(f"http://{endpoint}/minio/health/ready").status_code == 200
    except httpx2.TransportError:
        return False


def test_each_key_may_do_what_it_needs_and_no_more(server: Server) -> None:
    check(server)


async def test_what_is_stored_encrypted_is_served_as_before(server: Server) -> None:
    root = server.client("root")
    for size in (10, PART_BYTES + 10):
        for encryption, of_kms in (("AES256", ""), ("aws:kms", KMS_KEY), ("aws:kms", ""), ("", "")):
            store = server.store("api", encryption=encryption, kms_key_id=of_kms)
            try:
                key = object_key(f"encrypted-{size}", "inputs.zip")
                async with store.upload(key) as upload:
                    await upload.write(bytes(size))
                    stored = await upload.finish()
                assert await store.stat(key) == (size, stored.etag)
                _, pieces = await store.read(key, etag=stored.etag, byte_range=f"bytes=1-{size}")
                assert b"".join([piece async for piece in pieces]) == bytes(size - 1)
                with pytest.raises(errors.Replaced):
                    await store.read(key, etag="0" * 32)
            finally:
                await store.close()
            # What the store itself says of it.
            found = root.stat_object(BUCKET, key).metadata or {}
            assert found.get(ENCRYPTION, "") == encryption
            # It has one key, which is the bucket's, too.
            by = found.get(f"{ENCRYPTION}-aws-kms-key-id", "")
            assert by.removeprefix("arn:aws:kms:") == (KMS_KEY if encryption == "aws:kms" else "")


def installed(place: Place) -> dict[str, tuple[str, str]]:
    """Return the keys of the release: those that the pods are given."""
    keys = {}
    for who, part, prefix in (
        ("root", "minio", "MINIO_ROOT_USER MINIO_ROOT_PASSWORD"),
        *((p, p, "ORCHESTRATOR_S3_ACCESS_KEY ORCHESTRATOR_S3_SECRET_KEY") for p in PARTS),
    ):
        spec = place.get("deployment", f"{RELEASE}-{part}", NAMESPACE)["spec"]["template"]["spec"]
        refs = {e["name"]: e.get("valueFrom", {}) for e in spec["containers"][0]["env"]}
        values = []
        for name in prefix.split():
            ref = refs[name]["secretKeyRef"]
            data = place.get("secret", ref["name"], NAMESPACE)["data"]
            values.append(base64.b64decode(data[ref["key"]]).decode())
        keys[who] = (values[0], values[1])
    return keys


def test_operator_and_api_are_given_keys_that_may_do_no_more(place: Place) -> None:
    keys = installed(place)
    assert len(set(keys.values())) == 3
    with place.forwarded(f"service/{RELEASE}-minio", 9000, NAMESPACE) as url:
        check(Server(url.removeprefix("http://"), keys))


def test_a_store_that_cannot_encrypt_is_told_of_and_keys_outlive_an_upgrade(place: Place) -> None:
    keys = installed(place)
    with place.configured("objectStore.serverSideEncryption=AES256"):
        until(lambda: REFUSES in _warnings(place), "health tells that nothing can be stored")
        assert installed(place) == keys
    # For a moment yet, the replica before answers, too.
    until(lambda: _replicas(place) == 1, "it is gone")
    assert REFUSES not in _warnings(place)
    assert place.wait(place.upload("true")) == "Completed"


def test_a_store_that_takes_writes_that_nobody_signed_is_told_of(place: Place) -> None:
    # The chart's own is one: tests/attack/test_store.py writes to it.
    assert "takes writes that nobody signed" in _warnings(place)


def _replicas(place: Place) -> int:
    selector = "--selector=app.kubernetes.io/component=api"
    return len(place.kubectl("get", "pods", f"--namespace={NAMESPACE}", selector, "-oname").split())


def _warnings(place: Place) -> str:
    return str(httpx2.get(f"{place.front}/health", timeout=10).headers.get("warning", ""))
