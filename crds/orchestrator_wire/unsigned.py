"""Does the object store take writes that nobody signed? MinIO's does (CVE-2026-41145).

Its public source looks at the signature of a body with an unsigned trailer only where there is an
Authorization header, so that whoever knows a key's id, which is no secret, can write what that key
may write.
"""

import base64
import secrets
import zlib
from datetime import UTC, datetime
from urllib.parse import quote

import aiohttp

from orchestrator_wire import errors
from orchestrator_wire.s3 import Store

PREFIX = "self-test/"
_BODY = b"unsigned"


async def takes_unsigned_writes(store: Store) -> bool:
    """Try it with an object of our own, and take it away again; raises StoreDown or Refused."""
    where = store.where
    key = f"{PREFIX}{secrets.token_hex(16)}"
    scheme = "https" if where.secure else "http"
    day = datetime.now(UTC).strftime("%Y%m%d")
    credential = quote(f"{where.access_key}/{day}/{where.region}/s3/aws4_request", safe="")
    url = f"{scheme}://{where.endpoint}/{where.bucket}/{key}?X-Amz-Credential={credential}"
    check = base64.b64encode(zlib.crc32(_BODY).to_bytes(4, "big")).decode()
    body = b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % (len(_BODY), _BODY, check.encode())
    headers = {
        "Content-Encoding": "aws-chunked",
        "X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "X-Amz-Decoded-Content-Length": str(len(_BODY)),
        "X-Amz-Trailer": "x-amz-checksum-crc32",
        **where.encryption_headers,
    }
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.put(url, data=body, headers=headers) as answer,
        ):
            await answer.read()
            taken = answer.status < 300
            if answer.status >= 500:
                raise errors.store_error(answer.status, f"the object store answers {answer.status}")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise errors.StoreDown(f"the object store cannot be asked: {error!r}") from error
    if taken:
        await store.delete(key)
    return taken
