"""POST /upload: what is accepted, what is refused and how, and that a failure leaves nothing."""

import asyncio
import io
import itertools
import json
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from orchestrator_api import pacing
from orchestrator_api import upload as parsing
from orchestrator_api.upload import LONGEST_FIELD
from tests.support.builders import service_body
from tests.support.fake_s3 import _etag
from tests.support.system import System

CREATED = {"id": 1, "status": "Queued", "message": "Job successfully uploaded"}
MARK = "multipart/form-data; boundary=x"


def refused(message: str) -> dict[str, Any]:
    return {"id": 0, "status": "Unknown", "message": message}


def nothing_left(system: System) -> bool:
    return not system.jobs() and not system.s3.objects and not system.s3.uploads


async def test_an_upload_becomes_one_bundle_and_one_job(system: System) -> None:
    files = [("file", ("run.sh", b"echo hi\n")), ("anything", ("a.pdb", b"ATOM"))]
    answer = await system.upload(files, user_id="-7", unknown="ignored")
    assert (answer.status_code, answer.json()) == (201, CREATED)
    spec = system.jobs()[0]["spec"]
    assert (spec["id"], spec["userID"], spec["service"]) == (1, "-7", "example")
    assert spec["inputs"]["files"] == [
        {"name": "run.sh", "sizeBytes": 8},
        {"name": "a.pdb", "sizeBytes": 4},
    ]
    data = system.s3.objects[spec["inputs"]["key"]]
    assert len(data) == spec["inputs"]["sizeBytes"]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.read("a.pdb") == b"ATOM"


async def test_a_thousand_long_names_do_not_make_a_large_resource(system: System) -> None:
    system.kube.put("orchestratorservices", service_body(inputs={"maxBytes": 10**6}))
    await asyncio.sleep(0.05)
    names = ["run.sh", *(f"{n:03}".ljust(255, "x") for n in range(999))]
    answer = await system.upload([("file", (name, b"x")) for name in names])
    assert answer.status_code == 201
    inputs = system.jobs()[0]["spec"]["inputs"]
    assert len(json.dumps(inputs)) < 20_000
    assert inputs["fileCount"] == 1000
    assert [file["name"] for file in inputs["files"]] == names[:57]
    with zipfile.ZipFile(io.BytesIO(system.s3.objects[inputs["key"]])) as archive:
        assert archive.namelist() == names


async def test_numbers_grow_and_keys_cannot_be_guessed(system: System) -> None:
    answers = [(await system.upload()).json()["id"] for _ in range(5)]
    assert answers == [1, 2, 3, 4, 5]
    keys = {job["spec"]["inputs"]["key"] for job in system.jobs()}
    assert len({len(key) for key in keys}) == 1
    assert len(keys) == 5


async def test_uploads_at_once_get_different_numbers(system: System) -> None:
    answers = await asyncio.gather(*(system.upload() for _ in range(30)))
    assert sorted(a.json()["id"] for a in answers) == list(range(1, 31))
    # Blocks: far less than one extra write an upload.
    assert sum("configmaps" in w for w in system.kube.writes) <= 6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user_id": None}, "Missing user_id field"),
        ({"user_id": None, "service": None}, "Missing user_id field"),
        ({"user_id": "alice"}, "Invalid user_id, should be a number"),
        ({"user_id": ""}, "Invalid user_id, should be a number"),
        ({"user_id": "2147483648"}, "Invalid user_id, should be a number"),
        ({"user_id": "١"}, "Invalid user_id, should be a number"),
        ({"service": None}, "Missing service field"),
        ({"service": "nonsense"}, "Invalid service"),
        ({"service": ""}, "Invalid service"),
    ],
)
async def test_wrong_fields_are_named_in_the_contracts_words(
    system: System, fields: dict[str, Any], message: str
) -> None:
    answer = await system.upload(**fields)
    assert (answer.status_code, answer.json()) == (400, refused(message))
    assert nothing_left(system)


async def test_no_file_is_refused(system: System) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="user_id"\r\n\r\n1\r\n'
    body += b'--x\r\nContent-Disposition: form-data; name="service"\r\n\r\nexample\r\n--x--\r\n'
    answer = await system.rest.post("/upload", content=body, headers={"Content-Type": MARK})
    assert answer.status_code == 400
    assert "Missing file" in answer.json()["message"]


async def test_fields_may_come_after_files(system: System) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="run.sh"\r\n\r\nhi\r\n'
        b'--x\r\nContent-Disposition: form-data; name="service"\r\n\r\nexample\r\n'
        b'--x\r\nContent-Disposition: form-data; name="user_id"\r\n\r\n1\r\n--x--\r\n'
    )
    answer = await system.rest.post("/upload", content=body, headers={"Content-Type": MARK})
    assert answer.json() == CREATED


@pytest.mark.parametrize("size", [100_001, 3_000_000])
async def test_too_large_is_413(system: System, size: int) -> None:
    answer = await system.upload([("file", ("big", bytes(size)))])
    assert answer.status_code == 413
    assert "100000 bytes" in answer.json()["message"]
    assert nothing_left(system)


async def test_a_body_that_announces_too_much_is_refused_unread(system: System) -> None:
    async def body() -> Any:
        yield b"never read"
        raise AssertionError("the body was read")

    headers = {"Content-Type": MARK, "Content-Length": str(10**12)}
    answer = await system.rest.post("/upload", content=body(), headers=headers)
    assert answer.status_code == 413
    assert nothing_left(system)


@pytest.mark.parametrize(
    "files",
    [
        [("f", ("..", b"x"))],
        [("f", ("a\u202eb", b"x"))],
        [("f", ("same", b"x")), ("g", ("dir/same", b"y"))],
        [("f", (f"{n}", b"x")) for n in range(4)],
    ],
    ids=["dots", "right-to-left", "twice", "too many"],
)
async def test_hostile_names_and_numbers_of_files(system: System, files: Any) -> None:
    answer = await system.upload(files)
    assert answer.status_code == 400
    assert nothing_left(system)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", MARK),
        (b"no multipart at all", MARK),
        (b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nno end', MARK),
        (b"--x\r\nBroken header\r\n\r\n\r\n--x--\r\n", MARK),
        (
            b"--x\r\nContent-Disposition: form-data; name=\"f\"; filename*=UTF-8''a\r\n\r\n.\r\n--x--",
            MARK,
        ),
        (b"{}", "application/json"),
        (b"x", "multipart/form-data"),
        (b"x", ""),
        (b"x", "multipart/form-data; boundary=" + "x" * 71),
        (b"x", 'multipart/form-data; boundary="a\tb"'),
    ],
    ids=[
        "empty",
        "junk",
        "no end",
        "bad header",
        "filename*",
        "json",
        "no boundary",
        "no type",
        "long boundary",
        "boundary with a tab",
    ],
)
async def test_broken_bodies_are_400(system: System, body: bytes, kind: str) -> None:
    answer = await system.rest.post("/upload", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text
    assert answer.json()["id"] == 0
    assert len(answer.json()["message"]) > 20
    assert nothing_left(system)


# How a part may be named twice, and what of it is told.
TWICE = {
    b"; filename=\"run.sh\"; filename*=UTF-8''..%2fx": "filename*=",
    b'; filename="run.sh"; FileName* = x': "filename*=",
    b'; filename*0="../"; filename*1="x"': "filename*0=",
    b"; filename=\"run.sh\"; filename*0*=UTF-8''x": "filename*0*=",
    b'; filename="run.sh"; filename="../x"': "more than one filename=",
    b"; filename=run.sh;filename=x": "more than one filename=",
    b'; filename="a;b\\""; FILENAME\t=\t"x"': "more than one filename=",
    b'; filename="run.sh"; name="user_id"': "more than one name=",
    b"; name*=UTF-8''user_id": "name*=",
    b'\r\nContent-Disposition: form-data; name="f"; filename="x"': "more than one Content-Disposition",
    b'; filename="run.sh"\r\n ; filename="x"': "more than one filename=",
}


async def named(system: System, more: bytes) -> tuple[int, str]:
    """Upload a file that is named like that; returns the status and the message."""
    body = b"".join((
        b'--x\r\nContent-Disposition: form-data; name="user_id"\r\n\r\n1\r\n',
        b'--x\r\nContent-Disposition: form-data; name="service"\r\n\r\nexample\r\n',
        b'--x\r\nContent-Disposition: form-data; name="f"' + more + b"\r\n\r\nhi\r\n--x--\r\n",
    ))  # fmt: skip
    answer = await system.rest.post("/upload", content=body, headers={"Content-Type": MARK})
    return answer.status_code, answer.json()["message"]


@pytest.mark.parametrize("more", TWICE)
async def test_a_part_that_is_named_twice_is_refused(system: System, more: bytes) -> None:
    """By two Content-Dispositions it got past: one was looked at, and the other taken."""
    status, message = await named(system, more)
    assert status == 400
    assert TWICE[more] in message
    assert nothing_left(system)


async def test_unchecked_it_would_be_called_by_one_of_its_names(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsing, "check_naming", lambda _: None)
    told = {more: (await named(system, more))[0] for more in TWICE}
    # Where no name is left that the parser knows, there is no file.
    unnamed = {more for more in TWICE if b"filename=" not in more.lower().replace(b"\t", b"")}
    assert told == {more: 400 if more in unnamed else 201 for more in TWICE}
    files = [job["spec"]["inputs"]["files"][0]["name"] for job in system.jobs()]
    assert set(files) == {"run.sh", "x", 'a;b"'}


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (b"; filename=run.sh", "run.sh"),
        (b'; filename="run.sh; filename=x"', "run.sh; filename=x"),
        (b'; filename="a*=b"', "a*=b"),
        (b'; filename="say \\"; filename=\\".txt"', 'say "; filename=".txt'),
        (b'; filename="run.sh"; size=2; creation-date="x"', "run.sh"),
        (b'; filename="50%"', "50%"),
    ],
)
async def test_a_part_that_is_named_once_is_taken(system: System, more: bytes, name: str) -> None:
    assert await named(system, more) == (201, CREATED["message"])
    assert [file["name"] for file in system.jobs()[0]["spec"]["inputs"]["files"]] == [name]


@pytest.mark.parametrize("cuts", [(), (13,), (5, 13, 14)])
async def test_a_broken_form_is_refused_however_it_is_cut(
    system: System, cuts: tuple[int, ...]
) -> None:
    """Found by fuzzing: junk before the first boundary was refused only if it came along with it."""
    whole = b"hello, world\n" + (
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="run.sh"\r\n\r\nhi\r\n'
        b'--x\r\nContent-Disposition: form-data; name="service"\r\n\r\nexample\r\n'
        b'--x\r\nContent-Disposition: form-data; name="user_id"\r\n\r\n1\r\n--x--\r\n'
    )

    async def body() -> AsyncIterator[bytes]:
        for begin, end in itertools.pairwise((0, *cuts, len(whole))):
            yield whole[begin:end]

    answer = await system.rest.post("/upload", content=body(), headers={"Content-Type": MARK})
    assert answer.status_code == 400
    assert nothing_left(system)


async def test_an_endless_field_is_refused(system: System) -> None:
    answer = await system.upload(user_id="1" * (LONGEST_FIELD + 1))
    assert answer.status_code == 400
    assert nothing_left(system)


async def test_a_store_that_is_down_is_503_and_leaves_nothing(system: System) -> None:
    system.s3.down = True
    answer = await system.upload()
    assert answer.status_code == 503
    assert "file store" in answer.json()["message"]
    assert nothing_left(system)


@pytest.mark.parametrize("status", [403, 422])
async def test_a_job_that_kubernetes_refuses_leaves_no_object(system: System, status: int) -> None:
    def refuse(method: str, path: str) -> web.Response | None:
        ours = method == "POST" and path.endswith("orchestratorjobs")
        return web.json_response({"reason": "Forbidden"}, status=status) if ours else None

    system.kube.before = refuse
    answer = await system.upload()
    assert answer.status_code == 503
    assert nothing_left(system)


async def test_a_counter_that_was_put_back_skips_numbers_in_use(system: System) -> None:
    await system.upload()
    system.kube.get("configmaps", "orchestrator-ids")["data"]["next"] = "1"
    answers = [(await system.upload()).json()["id"] for _ in range(3)]
    assert answers == sorted(set(answers))
    assert 1 not in answers


async def test_a_client_that_goes_away_leaves_nothing(system: System) -> None:
    async def body() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n' + b"x" * 9000
        raise ConnectionError("gone")

    await system.rest.post("/upload", content=body(), headers={"Content-Type": MARK})
    assert nothing_left(system)


async def test_a_counter_that_is_lost_goes_on_after_the_highest_number_in_use(
    system: System,
) -> None:
    await system.upload()
    system.s3.objects |= {"records/41.json": b"{}", "records/x.json": b"{}"}
    system.kube.remove("configmaps", "orchestrator-ids")
    system.context.submissions._ids._next = system.context.submissions._ids._end
    assert (await system.upload()).json()["id"] == 42


async def test_what_is_suspicious_in_run_sh_is_noted(system: System) -> None:
    files = [("file", ("run.sh", b"set -e\ncurl x\n")), ("file", ("notes", b"sudo\n"))]
    assert (await system.upload(files)).status_code == 201
    assert system.jobs()[0]["spec"]["inputs"]["findings"] == ["line 2: network tool (curl)"]


async def test_a_service_may_not_care_what_is_in_run_sh(system: System) -> None:
    system.kube.put("orchestratorservices", service_body(scriptPolicy="Off"))
    await asyncio.sleep(0.05)
    await system.upload([("file", ("run.sh", b"curl x\n"))])
    assert not system.jobs()[0]["spec"]["inputs"].get("findings")


async def test_a_callback_to_a_host_that_is_not_allowed_is_refused(system: System) -> None:
    answer = await system.upload(callback_url="https://evil.example.org/")
    assert answer.status_code == 400
    assert "callback_url" in answer.json()["message"]
    assert nothing_left(system)


async def test_a_callback_to_an_allowed_host_is_the_jobs(system: System) -> None:
    url = "https://portal.example.org/ended?id=1"
    assert (await system.upload(callback_url=url)).status_code == 201
    assert system.jobs()[0]["spec"]["callbackURL"] == url


async def test_the_inputs_etag_is_recorded(system: System) -> None:
    await system.upload()
    inputs = system.jobs()[0]["spec"]["inputs"]
    assert f'"{inputs["etag"]}"' == _etag(system.s3.objects[inputs["key"]])


async def test_a_body_that_stops_is_given_up(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "IDLE_SECONDS", 0.05)

    async def body() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        await asyncio.sleep(60)

    answer = await system.rest.post("/upload", content=body(), headers={"content-type": MARK})
    assert (answer.status_code, answer.json()) == (
        408, refused("The upload stopped half-way. Send it again."),
    )  # fmt: skip
    assert nothing_left(system)


async def test_a_body_that_only_drips_is_given_up(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "SLOW_START_SECONDS", 0.05)

    async def body() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        while True:
            await asyncio.sleep(0.02)
            yield b"C"

    answer = await system.rest.post("/upload", content=body(), headers={"content-type": MARK})
    assert answer.status_code == 408
    assert "slower than 32768 bytes a second" in answer.json()["message"]


async def test_a_wait_of_our_own_making_is_not_the_senders_slowness(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pacing, "SLOW_START_SECONDS", 0.05)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x"

    async for _ in pacing.paced(body()):
        await asyncio.sleep(0.05)
