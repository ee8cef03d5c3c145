"""The body of POST /upload: multipart/form-data, parsed as it comes and stored as one zip.

Never a body in memory or in a temporary file: what is kept back is one part of the store's
multipart upload. Fields may come before or after files.
"""

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator, Collection

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from orchestrator_api.bundle import Bundle
from orchestrator_api.cache import Services
from orchestrator_api.errors import BadRequest, Forbidden, TooLarge
from orchestrator_api.identity.principals import Principal
from orchestrator_crds import OrchestratorService
from orchestrator_crds.callback import allowed
from orchestrator_crds.job import MAX_FILES
from orchestrator_crds.names import SCRIPT, BadFileName, file_name
from orchestrator_crds.script import ENOUGH_BYTES, findings

LONGEST_FIELD = 64 * 1024
MOST_FIELDS = 100
READ_FIELDS = frozenset({"user_id", "service", "callback_url"})
# Multipart headers and boundaries come on top of the files themselves.
OVERHEAD_BYTES = 1 << 20
# How much of a refused upload is still read, so that its sender gets to read the answer.
DISCARDED_BYTES = 64 << 20
LONG = 8 * 1024
BLOCK_BYTES = 64 * 1024
LONGEST_BOUNDARY = 70
_USER = re.compile(r"[+-]?[0-9]{1,10}")


def boundary(content_type: str) -> str:
    """Return the boundary that a Content-Type header names; raises BadRequest."""
    kind, options = parse_options_header(content_type)
    found = str(options.get("boundary", ""))
    if kind != "multipart/form-data" or not found:
        raise BadRequest("The upload must be multipart/form-data, as a form or curl -F sends it.")
    if len(found) > LONGEST_BOUNDARY or not found.isprintable():
        raise BadRequest("The boundary of a form has at most 70 characters (RFC 2046, 5.1.1).")
    return found


def check_length(content_length: str, services: Services) -> None:
    """Refuse a body that announces more than any service takes, before it is read.

    A client that waits for `100 Continue`, as curl does, then never sends it. Raises TooLarge.
    """
    if content_length.isdigit() and int(content_length) > services.largest_upload + OVERHEAD_BYTES:
        raise _too_large(services.largest_upload)


class Form:
    """The fields and files of one upload, while they come in."""

    def __init__(
        self,
        bundle: Bundle,
        services: Services,
        known: Principal,
        callback_hosts: Collection[str] = (),
    ) -> None:
        self._bundle, self._services, self._known = bundle, services, known
        self._callback_hosts = callback_hosts
        self.fields: dict[str, str] = {}
        self._field_count = 0
        self._names: set[str] = set()
        self._field: bytearray | None = None
        self._segment: MultipartSegment | None = None
        self._file_bytes = 0
        self._name = ""
        self._script = bytearray()

    @property
    def limit(self) -> int:
        """Return how many bytes of files are allowed, as far as that is known by now."""
        service = self._services.find(self.fields.get("service", ""))
        return service.spec.inputs.max_bytes if service else self._services.largest_upload

    @property
    def largest(self) -> int:
        """Return how many bytes of files the most generous service takes."""
        return self._services.largest_upload

    async def take(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        """Take the parser's next event; raises BadRequest, TooLarge or StoreDown."""
        if isinstance(event, MultipartSegment):
            self._begin(event)
        elif event is None:
            await self._end()
        elif self._field is not None:
            self._field += event
            if len(self._field) > LONGEST_FIELD:
                raise BadRequest("A form field holds more than 64 KiB; send it as a file.")
        elif self._segment is not None:
            self._file_bytes += len(event)
            if self._file_bytes > self.limit:
                raise _too_large(self.limit)
            if self._name == SCRIPT and len(self._script) < ENOUGH_BYTES:
                self._script += event
            await self._bundle.write(event)

    async def findings(self) -> tuple[str, ...]:
        """Return what is suspicious in the run.sh of a complete form."""
        text = self._script.decode(errors="replace")
        # A long one takes longer to look at than others should have to wait.
        return await asyncio.to_thread(findings, text) if len(text) > LONG else findings(text)

    def _begin(self, segment: MultipartSegment) -> None:
        self._segment = segment
        # RFC 7578 forbids it, and it would name the file a second time, past every check.
        if "filename*" in (segment.header("Content-Disposition") or "").lower():
            raise BadRequest("A part names its file by filename*=, which forms must not do.")
        if not segment.filename:
            self._field_count += 1
            if self._field_count > MOST_FIELDS:
                raise BadRequest(f"More than {MOST_FIELDS} form fields.")
            self._field = bytearray()
            return
        try:
            name = file_name(segment.filename)
        except BadFileName as error:
            raise BadRequest(str(error)) from error
        # Two names that differ only in how an accent is spelled look the same to a person.
        same = unicodedata.normalize("NFC", name)
        if same in self._names:
            raise BadRequest(f"Two files have the name {name!r}; rename one of them.")
        self._names.add(same)
        self._name = name
        if len(self._names) > MAX_FILES:
            raise BadRequest(f"More than {MAX_FILES} files; pack some of them into one.")
        self._bundle.begin(name)

    async def _end(self) -> None:
        if self._field is not None and self._segment is not None:
            name = self._segment.name or ""
            # Others are ignored, and a second field of the same name does not override the first.
            if name in READ_FIELDS:
                self.fields.setdefault(name, self._field.decode(errors="replace"))
                self._authorise()
        elif self._segment is not None:
            await self._bundle.end()
        self._segment = self._field = None
        # Once around: a thousand small parts at once would be a tenth of a second for all others.
        await asyncio.sleep(0)

    def _authorise(self) -> None:
        """Refuse, as soon as that is known, an upload for whom the caller may not act."""
        user, service = self.fields.get("user_id", ""), self.fields.get("service", "")
        if not _is_user(user) or self._services.find(service) is None:
            return  # a mistake, which `check` tells in the contract's order
        if not self._known.may(str(int(user)), service):
            raise Forbidden(f"You may not submit jobs for user {int(user)} to service {service}.")

    def check(self) -> tuple[int, OrchestratorService]:
        """Return (user, service) of a complete form; raises BadRequest in the contract's order."""
        user = self.fields.get("user_id")
        if user is None:
            raise BadRequest("Missing user_id field")
        if not _is_user(user):
            raise BadRequest("Invalid user_id, should be a number")
        if "service" not in self.fields:
            raise BadRequest("Missing service field")
        service = self._services.find(self.fields["service"])
        if service is None:
            raise BadRequest("Invalid service")
        self._authorise()
        if not self._names:
            raise BadRequest("Missing file: the upload has no part with a filename")
        if len(self._names) > service.spec.inputs.max_files:
            raise BadRequest(
                f"More than {service.spec.inputs.max_files} files, the service's limit."
            )
        if self._file_bytes > service.spec.inputs.max_bytes:
            raise _too_large(service.spec.inputs.max_bytes)
        callback = self.fields.get("callback_url")
        if callback is not None and not allowed(callback, self._callback_hosts):
            raise BadRequest(
                "The callback_url is not one that the administrator allows; leave it out, or ask "
                "for its host to be allowed."
            )
        return int(user), service


def _is_user(text: str) -> bool:
    return bool(_USER.fullmatch(text)) and -(2**31) <= int(text) < 2**31


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The files are larger than {limit} bytes, the service's limit.")


async def drain(body: AsyncIterator[bytes]) -> None:
    """Read and throw away the rest of a refused body, if it is not endless.

    A client that is still sending would else see a broken connection instead of the answer.
    """
    left = DISCARDED_BYTES
    async for data in body:
        left -= len(data)
        if left < 0:
            return


async def blocks(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass *body* on in pieces of one size, as its bytes alone say.

    What the parser makes of a broken form depends on where it is cut, and so would on the network;
    and each piece costs it some work, however small.
    """
    kept, size = [], 0
    async for data in body:
        kept.append(data)
        size += len(data)
        if size < BLOCK_BYTES:
            continue
        whole = b"".join(kept)
        for begin in range(0, size - BLOCK_BYTES + 1, BLOCK_BYTES):
            yield whole[begin : begin + BLOCK_BYTES]
        size %= BLOCK_BYTES
        kept = [whole[len(whole) - size :]]
    if size:
        yield b"".join(kept)


async def receive(form: Form, mark: str, body: AsyncIterator[bytes]) -> None:
    """Parse *body* into *form*; raises ApiError or StoreDown."""
    size, most = 0, form.largest + OVERHEAD_BYTES
    try:
        # Not strict: what follows the end is to be ignored (RFC 2046, 5.1.1), and a last line break
        # often comes in a piece of its own.
        with PushMultipartParser(mark, max_segment_count=MAX_FILES + MOST_FIELDS + 1) as parser:
            async for data in blocks(body):
                size += len(data)
                if size > most:
                    raise TooLarge(f"The upload is larger than {most} bytes.")
                if not parser.closed:
                    for event in parser.parse(data):
                        await form.take(event)
    except ParserLimitReached as error:
        raise TooLarge(f"The upload has too many or too long parts: {error}.") from error
    except MultipartError as error:
        raise BadRequest(f"The upload is broken multipart/form-data: {error}.") from error
