"""The body of an upload: whatever it is and however it is cut, one and the same verdict, soon."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from multipart import PushMultipartParser

from orchestrator_api import upload as parsing
from orchestrator_api.bundle import Bundle
from orchestrator_api.errors import ApiError, BadRequest
from orchestrator_api.identity.principals import ANYBODY
from orchestrator_api.upload import Form, boundary, receive
from orchestrator_crds.names import file_name
from tests.fuzz.dose import fuzzed
from tests.support.builders import a_service

MARK = "x"
LIMIT = 4096
# What a parser may keep back: the longest header line, and as much of a boundary.
KEPT = 4096 + 128 + 64
TOKENS = [
    b"--x", b"\r\n", b"\n", b"\r", b"--", b"\r\n--x\r\n", b"\r\n--x--\r\n", b"--x\r\n", b"\r\n\r\n",
    b"Content-Disposition: form-data", b'; name="user_id"', b'; name="service"', b'; name="file"',
    b'; filename="run.sh"', b'; filename="../a"', b"; filename*=UTF-8''b", b'; filename="a\\"b"',
    b'; filename="C:\\\\x\\\\y"', b'; name="callback_url"', b"Content-Type: text/plain", b": ", b";",
    b"; filename*0=a", b"; filename=b", b"Content-Transfer-Encoding: base64", b"Content-Length: -1", b"1", b"fuzzed", b"\0", b"\xff",
    "\u202e".encode(), b"a" * 300, b'"', b"Content-Type: multipart/mixed; boundary=x",
]  # fmt: skip


def part(head: bytes, body: bytes) -> bytes:
    return b"--x\r\nContent-Disposition: form-data" + head + b"\r\n\r\n" + body + b"\r\n"


FORM = (
    part(b'; name="user_id"', b"1")
    + part(b'; name="file"; filename="run.sh"', b"echo\r\n-\r\n--\r\n--y")
    + part(b'; name="service"', b"fuzzed")
    + b"--x--\r\n"
)
TOKEN = st.sampled_from(TOKENS) | st.binary(max_size=12)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw junk of the format's own words, or a right form in which something was changed."""
    junk = b"".join(draw(st.lists(TOKEN, max_size=24)))
    if draw(st.booleans()):
        return junk
    at = draw(st.integers(0, len(FORM)))
    until = draw(st.integers(at, min(at + 40, len(FORM))))
    return FORM[:at] + b"".join(draw(st.lists(TOKEN, max_size=3))) + FORM[until:]


class Store:
    """Takes what an upload writes."""

    def __init__(self) -> None:
        self.data = b""

    async def write(self, data: bytes) -> None:
        self.data += data


class Services:
    """One service."""

    largest_upload = LIMIT
    service = a_service("fuzzed", inputs={"maxBytes": LIMIT, "maxFiles": 3})

    def find(self, name: str) -> Any:
        return self.service if name == "fuzzed" else None


class Parser(PushMultipartParser):  # type: ignore[misc]
    """A parser that is watched: never may it keep back more than it must."""

    def parse(self, chunk: Any) -> Any:
        yield from super().parse(chunk)
        assert len(self._buffer) <= KEPT, len(self._buffer)


async def _verdict(body: bytes, cuts: Iterable[int]) -> Any:
    """Return what becomes of *body*, when it comes in pieces that begin at *cuts*."""
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})

    async def pieces() -> AsyncIterator[bytes]:
        for begin, end in pairwise(places):
            yield body[begin:end]

    store, services = Store(), cast("Any", Services())
    with Bundle(cast("Any", store), LIMIT) as bundle:
        form = Form(bundle, services, ANYBODY)
        try:
            await receive(form, MARK, pieces())
            user, _ = form.check()
        except ApiError as error:
            return error.status, error.message
        await bundle.close()
    with zipfile.ZipFile(io.BytesIO(store.data)) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    assert [file.name for file in bundle.files] == list(files)
    assert all(file_name(name) == name for name in files)
    return user, form.fields, files


@pytest.fixture(autouse=True, scope="module")
def watched_parser() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsing, "PushMultipartParser", Parser)
        # So that forms of a few hundred bytes take several.
        patch.setattr(parsing, "BLOCK_BYTES", 64)
        yield


@fuzzed(1000, body=bodies(), cuts=st.lists(st.integers(0, 5000), max_size=12))
def test_an_upload_means_the_same_however_it_is_cut(body: bytes, cuts: list[int]) -> None:
    whole = asyncio.run(_verdict(body, ()))
    assert asyncio.run(_verdict(body, cuts)) == whole
    assert asyncio.run(_verdict(body, range(len(body)))) == whole


def test_without_blocks_it_depends_on_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter-proof, with what was found: bytes before the first boundary."""
    monkeypatch.setattr(parsing, "blocks", lambda body: body)
    before = b"hello, world\n"
    body = before + FORM
    assert asyncio.run(_verdict(body, ())) != asyncio.run(_verdict(body, [len(before)]))


@fuzzed(1000, kind=st.text(max_size=80) | st.lists(st.sampled_from(
    ["multipart/form-data", ";", " ", "boundary", "=", '"', "\\", "x", "*", "'", "a" * 80, ","]
), max_size=30).map("".join))  # fmt: skip
def test_a_content_type_gives_a_boundary_or_is_refused(kind: str) -> None:
    try:
        found = boundary(kind)
    except BadRequest:
        return
    assert 0 < len(found) <= 70
    PushMultipartParser(found)
