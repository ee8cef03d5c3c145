"""Encryption by the object store: who asks for it, and that nothing takes an ETag for a digest."""

import hashlib

import pytest

from orchestrator_wire.s3 import Location
from orchestrator_wire.unsigned import takes_unsigned_writes
from orchestrator_wire.uploads import PART_BYTES
from tests.support.fake_s3 import fake_s3

KEY = "jobs/a/inputs.zip"
ALGORITHM, KEY_ID = "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"
AES = ({"encryption": "AES256"}, {ALGORITHM: "AES256"})
KMS = (
    {"encryption": "aws:kms", "kms_key_id": "alias/jobs"},
    {ALGORITHM: "aws:kms", KEY_ID: "alias/jobs"},
)


@pytest.mark.parametrize(("given", "wanted"), [({}, {}), AES, KMS], ids=["none", "AES256", "KMS"])
async def test_every_request_that_begins_an_object_asks_for_encryption_and_no_other(
    given: dict[str, str], wanted: dict[str, str]
) -> None:
    async with fake_s3(**given) as (state, s3):
        state.sealed = True
        await s3.put(KEY, b"small")
        for size in (1, 2 * PART_BYTES + 1):
            async with s3.upload(KEY) as upload:
                await upload.write(bytes(size))
                stored = await upload.finish()
            # The ETag is what the store says, and no digest of what was sent.
            assert stored.etag != hashlib.md5(bytes(size)).hexdigest()  # noqa: S324
            assert await s3.stat(KEY) == (size, stored.etag)
            _, pieces = await s3.read(KEY, etag=stored.etag)
            assert len(b"".join([piece async for piece in pieces])) == size
        async with s3.upload(KEY) as upload:
            await upload.write(bytes(PART_BYTES))
            await upload.abort()
        await takes_unsigned_writes(s3)
        await s3.delete(KEY)
        begun = 0
        for method, query, headers, signed in state.asked:
            begins = "uploads" in query or (method == "PUT" and "uploadId" not in query)
            begun += begins
            found = {k: v for k, v in headers.items() if k.startswith(ALGORITHM)}
            assert found == (wanted if begins else {}), (method, query)
            # S3 refuses x-amz- headers that are not part of the signature.
            assert "X-Amz-Credential" in query or set(headers) <= set(signed.split(";"))
        # Two PUTs, one of nobody, two multipart uploads.
        assert begun == 5


def test_without_an_algorithm_nothing_is_asked_for() -> None:
    where = Location("s3.example.org", "us-east-1", "bucket", "access", "secretsecret", secure=True)
    assert where.encryption_headers == {}
