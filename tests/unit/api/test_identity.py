"""Who calls, and what they may do: keys, tokens, grants, and every route against every caller."""

import asyncio
import base64
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from orchestrator_api.errors import ApiError, TooManyRequests, Unauthorized, Unavailable
from orchestrator_api.identity import door as of_door
from orchestrator_api.identity.api_keys import ApiKeys, BadKeyFile, hashed, read
from orchestrator_api.identity.door import Door, IdentitySettings
from orchestrator_api.identity.oidc import Issuer
from orchestrator_api.identity.principals import Principal
from orchestrator_api.identity.rates import Most, Rates
from orchestrator_crds.names import record_key
from orchestrator_crds.record import record
from orchestrator_crds.service import Retention
from tests.support.builders import job_body
from tests.support.loopback import listening
from tests.support.system import System

KEYS = {name: f"orc_{name}" for name in ("one", "two", "portal", "host", "admin")}


def entries() -> dict[str, Any]:
    return {
        "one": {"role": "user", "user": "1"},
        "two": {"role": "user", "user": "2"},
        "portal": {"role": "portal", "users": ["*"], "services": ["docking"]},
        "host": {"role": "portal", "users": ["1", "3"], "services": ["example"]},
        "admin": {"role": "administrator"},
    }


def a_file(path: Path, **more: Any) -> Path:
    found = {
        name: {"sha256": [hashed(KEYS.get(name, f"orc_{name}"))], **entry}
        for name, entry in (entries() | more).items()
    }
    target = path / "keys.yaml"
    target.write_text(yaml.safe_dump(found))
    return target


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(IdentitySettings(api_keys_file=str(a_file(tmp_path))))


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS.get(name, name)}"}


# Every route of the public API, with what each caller is answered for user 1's job on `example`:
# nobody, a false key, user 1, user 2, a portal for `docking`, one for user 1 on `example`, an
# administrator.
CALLERS = ("", "orc_false", "one", "two", "portal", "host", "admin")
EVERYBODY = (200,) * 7
OWNERS = (401, 401, 200, 404, 404, 200, 200)
MATRIX = {
    ("get", "/"): EVERYBODY,
    ("get", "/health"): EVERYBODY,
    ("get", "/download/{job_id}"): OWNERS,
    ("head", "/download/{job_id}"): OWNERS,
    ("get", "/download_partial/{job_id}"): OWNERS,
    ("head", "/download_partial/{job_id}"): OWNERS,
    ("get", "/v1/jobs/{job_id}/explain"): OWNERS,
    ("post", "/terminate/{job_id}"): OWNERS,
    ("post", "/upload"): (401, 401, 201, 403, 403, 201, 201),
}
# Not in the description, but served.
HIDDEN = {
    ("get", "/swagger"): EVERYBODY,
    ("get", "/swagger/"): EVERYBODY,
    ("get", "/api-docs/openapi.json"): EVERYBODY,
}


async def test_every_route_is_in_the_matrix(system: System) -> None:
    """A new route without a row fails here."""
    described = (await system.rest.get("/api-docs/openapi.json")).json()["paths"]
    found = {(verb, path) for path, verbs in described.items() for verb in verbs}
    assert found == set(MATRIX)


async def test_every_served_route_is_in_the_matrix(system: System) -> None:
    transport: Any = system.rest._transport
    served = {
        (method.lower(), route.path)
        for route in _routes(transport.app.routes)
        for method in route.methods
    }
    # Starlette answers HEAD itself where it serves its own pages.
    assert served - {("head", "/api-docs/openapi.json")} == set(MATRIX | HIDDEN)


def _routes(routes: Any) -> list[Any]:
    """Return the routes that answer, those of included routers too."""
    found = []
    for route in routes:
        inner = getattr(route, "routes", None)
        if inner is None and (router := getattr(route, "original_router", None)) is not None:
            inner = router.routes
        found += _routes(inner) if inner is not None else [route]
    return found


@pytest.mark.parametrize(("route", "expected"), (MATRIX | HIDDEN).items())
async def test_each_caller_at_each_route(
    system: System, route: tuple[str, str], expected: tuple[int, ...]
) -> None:
    verb, path = route
    found = []
    for caller in CALLERS:
        headers = bearer(caller) if caller else {}
        number = 0
        if "{job_id}" in path:
            made = await _upload(system, "admin")
            number = made.json()["id"]
        if path == "/upload":
            answer = await _upload(system, caller)
        else:
            url = path.replace("{job_id}", str(number))
            answer = await system.rest.request(verb, url, headers=headers)
        found.append(answer.status_code)
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
    assert tuple(found) == expected


async def test_one_rule_is_what_keeps_others_out(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter-proof of the matrix."""
    monkeypatch.setattr(Principal, "may", lambda *_: True)
    for caller in ("two", "portal"):
        for (verb, path), expected in MATRIX.items():
            if expected is OWNERS:
                number = (await _upload(system, caller)).json()["id"]
                url = path.replace("{job_id}", str(number))
                answer = await system.rest.request(verb, url, headers=bearer(caller))
                assert answer.status_code == 200, (caller, path)


async def _upload(system: System, caller: str, user: str = "1") -> Any:
    return await system.rest.post(
        "/upload",
        data={"user_id": user, "service": "example"},
        files=[("file", ("run.sh", b"echo hi\n"))],
        headers=bearer(caller) if caller else {},
    )


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/download/{}"),
        ("HEAD", "/download/{}"),
        ("GET", "/download_partial/{}"),
        ("POST", "/terminate/{}"),
        ("GET", "/v1/jobs/{}/explain"),
    ],
)
async def test_anothers_job_answers_exactly_as_one_that_is_not_there(
    system: System, verb: str, path: str
) -> None:
    number = (await _upload(system, "one")).json()["id"]
    foreign = await system.rest.request(verb, path.format(number), headers=bearer("two"))
    unknown = await system.rest.request(verb, path.format(7654321), headers=bearer("two"))
    assert foreign.status_code == unknown.status_code == 404
    assert re.sub(rf"\b{number}\b", "N", foreign.text) == unknown.text.replace("7654321", "N")
    lengths = {"content-length"}
    assert {k: v for k, v in foreign.headers.items() if k not in lengths} == {
        k: v for k, v in unknown.headers.items() if k not in lengths
    }


def no_kubernetes(system: System, _: pytest.MonkeyPatch) -> None:
    system.kube.before = lambda *_: web.Response(status=503)


def no_store(system: System, _: pytest.MonkeyPatch) -> None:
    system.s3.down = True


def no_place(_: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_door, "MOST_LOOKUPS", 0)


@pytest.mark.parametrize("phase", ["Queued", "Failed", "Cleaned"])
@pytest.mark.parametrize(
    ("hinder", "status"), [(no_kubernetes, 503), (no_store, 503), (no_place, 429)]
)
async def test_and_so_it_does_while_nothing_can_be_looked_up(
    system: System,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    hinder: Callable[[System, pytest.MonkeyPatch], None],
    status: int,
) -> None:
    """Another's job was not there, as ever; of one that was not it was said to be unclear."""
    body = job_body(phase=phase, message="over")
    system.kube.put("orchestratorjobs", body)
    if phase != "Queued":
        system.s3.objects[record_key(1)] = record(body, Retention())
    assert (await system.rest.get("/download/1", headers=bearer("one"))).status_code == 200
    while system.context.jobs.known(1) is None:
        await asyncio.sleep(0.005)
    hinder(system, monkeypatch)
    foreign = await system.rest.get("/download/1", headers=bearer("two"))
    unknown = await system.rest.get("/download/7654321", headers=bearer("two"))
    assert (foreign.status_code, foreign.text) == (unknown.status_code, unknown.text)
    assert foreign.status_code == status


async def test_an_ended_job_is_as_hidden_as_a_live_one(system: System) -> None:
    number = (await _upload(system, "one")).json()["id"]
    await system.rest.post(f"/terminate/{number}", headers=bearer("one"))
    assert (await system.rest.get(f"/download/{number}", headers=bearer("two"))).status_code == 404
    assert (await system.rest.get(f"/download/{number}", headers=bearer("one"))).status_code == 200


async def test_an_upload_for_another_user_leaves_nothing(system: System) -> None:
    answer = await _upload(system, "two")
    assert answer.status_code == 403
    assert answer.json() == {
        "id": 0,
        "status": "Unknown",
        "message": "You may not submit jobs for user 1 to service example.",
    }
    assert system.jobs() == []
    assert not system.s3.objects
    assert (await _upload(system, "two", user="+2")).status_code == 201


async def test_no_byte_of_a_body_is_read_before_the_caller_is_known(system: System) -> None:
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    transport: Any = system.rest._transport
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        read.append(1)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "path": "/upload", "raw_path": b"/upload", "query_string": b"", "root_path": "",
        "scheme": "http", "server": ("test", 80), "client": ("test", 1),
        "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
    }  # fmt: skip
    await transport.app(scope, receive, send)
    assert sent[0]["status"] == 401
    assert not read


async def test_health_warns_where_nobody_is_asked(system: System) -> None:
    assert "warning" not in (await system.rest.get("/health")).headers
    object.__setattr__(system.context, "door", Door(IdentitySettings()))
    answer = await system.rest.get("/health")
    assert answer.json() == {"status": "ok", "database": "ok"}
    assert "Nobody is asked" in answer.headers["warning"]
    system.context.warnings.append("The store is weak.")
    told = (await system.rest.get("/health")).headers["warning"]
    assert told.endswith(', 199 orchestrator "The store is weak."')


def test_keys_are_given_and_taken_without_a_restart(tmp_path: Path) -> None:
    now = [0.0]
    keys = ApiKeys(a_file(tmp_path), lambda: now[0])
    assert keys.find("orc_new") is None
    a_file(tmp_path, new={"role": "administrator"})
    now[0] = 2.0
    assert keys.find("orc_new") == Principal("new", None, None)
    a_file(tmp_path)
    now[0] = 4.0
    assert keys.find("orc_new") is None


def test_a_wrong_file_leaves_the_keys_as_they_were(tmp_path: Path) -> None:
    now = [0.0]
    keys = ApiKeys(a_file(tmp_path), lambda: now[0])
    for number, text in enumerate(("a: [", "[]", json.dumps({"a": {"role": "king"}})), 1):
        (tmp_path / "keys.yaml").write_text(text)
        now[0] = 2.0 * number
        assert keys.find(KEYS["one"]) is not None


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"role": "king"}, "role"),
        ({"role": "user"}, "user is for the role user, which needs it"),
        ({"role": "portal", "user": "1"}, "user is for the role user"),
        ({"role": "portal", "users": ["*"]}, "users and services are for the role portal"),
        ({"role": "administrator", "services": ["x"]}, "users and services are for the role"),
        ({"role": "administrator", "sha256": ["orc_plain"]}, "sha256.0"),
        ({"role": "administrator", "sha256": []}, "sha256"),
        ({"role": "administrator", "admin": True}, "admin"),
    ],
)
def test_a_wrong_entry_is_named_and_no_key_is_quoted(entry: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadKeyFile) as found:
        read(yaml.safe_dump({"entry-name": {"sha256": ["a" * 64], **entry}}))
    assert "entry-name" in str(found.value)
    assert sentence in str(found.value)
    assert "orc_plain" not in str(found.value)


def test_one_key_cannot_stand_for_two() -> None:
    twice = {name: {"sha256": ["a" * 64], "role": "administrator"} for name in "ab"}
    with pytest.raises(BadKeyFile, match="another entry"):
        read(yaml.safe_dump(twice))


async def test_a_caller_that_asks_too_often_is_held_back_and_no_other() -> None:
    now = [0.0]
    rates = Rates(Most(requests_per_second=2, burst=3, uploads_at_once=1), lambda: now[0])
    for _ in range(3):
        rates.count("a")
    with pytest.raises(TooManyRequests):
        rates.count("a")
    rates.count("b")
    now[0] = 0.5
    rates.count("a")
    with rates.uploading("a"):
        with pytest.raises(TooManyRequests), rates.uploading("a"):
            pass
        with rates.uploading("b"):
            pass
    with rates.uploading("a"):
        pass


@dataclass
class Login:
    """An issuer on loopback, whose keys and answers the test can change."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    greeted: int = 0
    away: bool = False
    name: str = ""
    # What else it was asked for.
    strange: list[str] = field(default_factory=list)

    async def anything(self, request: web.Request) -> web.Response:
        self.strange.append(request.path)
        return web.json_response({"keys": [jwk(OTHER, "r")]})

    async def about(self, _: web.Request) -> web.Response:
        self.greeted += 1
        if self.away:
            raise web.HTTPServiceUnavailable
        return web.json_response({"issuer": self.name or self.url, "jwks_uri": f"{self.url}/jwks"})

    async def jwks(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response({"keys": self.keys})


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def jwk(key: Any, key_id: str) -> dict[str, Any]:
    kind = jwt.algorithms.RSAAlgorithm if key is not CURVE else jwt.algorithms.ECAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": key_id}


@pytest.fixture
async def login() -> AsyncIterator[Login]:
    found = Login(keys=[jwk(RSA, "r"), jwk(CURVE, "e")])
    app = web.Application()
    app.add_routes(
        [
            web.get("/.well-known/openid-configuration", found.about),
            web.get("/jwks", found.jwks),
            web.get("/{path:.*}", found.anything),
        ]
    )
    async with listening(app) as endpoint:
        found.url = f"http://{endpoint}"
        yield found


def a_door(login: Login, **more: Any) -> Door:
    oidc = Issuer.model_validate(
        {
            "issuer": login.url,
            "audience": "orchestrator",
            "rolesClaim": "groups",
            "administrators": ["admins"],
            "portals": {"docking-portal": {"users": ["*"], "services": ["docking"]}},
            **more,
        }
    )
    return Door(IdentitySettings(oidc=oidc))


def a_token(login: Login, key: Any = RSA, kid: str = "r", alg: str = "RS256", **more: Any) -> str:
    now = int(time.time())
    claims = {"iss": login.url, "aud": "orchestrator", "sub": "7", "exp": now + 60, **more}
    left = {name: value for name, value in claims.items() if value is not None}
    return "Bearer " + jwt.encode(left, key, algorithm=alg, headers={"kid": kid})


async def test_a_user_who_is_called_like_everybody_is_still_one(login: Login) -> None:
    """Found in review: `*` as a name was taken for the grant of everything."""
    found = await a_door(login, userClaim="name").admit(a_token(login, name="*"))
    assert not found.may("7", "example")
    assert found.may("*", "example")


@pytest.mark.parametrize("roles", [7, None, {"admins": 1}, [["admins"], 3, None], True])
async def test_roles_of_another_shape_are_none(login: Login, roles: Any) -> None:
    found = await a_door(login).admit(a_token(login, groups=roles))
    assert (found.may("7", "x"), found.may("8", "x")) == (True, False)


async def test_a_token_stands_for_its_user_portal_or_administrator(login: Login) -> None:
    door = a_door(login)
    user = await door.admit(a_token(login))
    assert (user.may("7", "docking"), user.may("8", "docking")) == (True, False)
    curve = await door.admit(a_token(login, CURVE, "e", "ES256", sub="9"))
    assert curve.may("9", "x")
    portal = await door.admit(a_token(login, groups=["docking-portal"]))
    assert (portal.may("8", "docking"), portal.may("7", "example")) == (True, False)
    admin = await door.admit(a_token(login, groups="admins"))
    assert admin.may("8", "example")


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "http://elsewhere"},
        {"aud": "another"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"nbf": 2**31},
        {"sub": None},
        {"sub": ""},
        {"sub": True},
        {"sub": ["7"]},
        {"key": OTHER},
        {"kid": "x"},
        {"alg": "RS512"},
    ],
)
async def test_a_token_that_is_wrong_is_refused(login: Login, change: dict[str, Any]) -> None:
    door = a_door(login)
    with pytest.raises(Unauthorized):
        await door.admit(a_token(login, **change))
    assert (await door.admit(a_token(login))).name == "oidc:7"


async def test_the_callers_choice_of_algorithm_does_not_count(login: Login) -> None:
    """The classic: none, and HMAC with the public key as its secret (PyJWT CVE-2022-29217)."""
    door = a_door(login)
    claims = a_token(login).removeprefix("Bearer ").split(".")[1]
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    none = f"{_part({'alg': 'none', 'kid': 'r'})}.{claims}"
    mac = f"{_part({'alg': 'HS256', 'kid': 'r'})}.{claims}"
    signature = _text(hmac.digest(public, mac.encode(), "sha256"))
    for token in (f"{none}.", f"{mac}.{signature}", "x", "a.b.c", "x" * 20_000, ""):
        with pytest.raises(Unauthorized):
            await door.admit(f"Bearer {token}")


# What a header says beside the algorithm, by the key that then signs it.
HEADERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "its own key": (OTHER, {"jwk": jwk(OTHER, "r")}),
    "where its key is": (OTHER, {"jku": "URL/evil"}),
    "where its certificate is": (OTHER, {"x5u": "URL/evil"}),
    "a path for a key": (OTHER, {"kid": "../../../../dev/null"}),
    "a question for a key": (OTHER, {"kid": "' UNION SELECT 'x"}),
    "a key that is no text": (OTHER, {"kid": ["r"]}),
    "a rule that we do not know": (RSA, {"crit": ["exp"]}),
    "a body that is not encoded": (RSA, {"b64": False, "crit": ["b64"]}),
}


@pytest.mark.parametrize("what", HEADERS)
async def test_what_a_tokens_header_brings_along_does_not_count(login: Login, what: str) -> None:
    key, header = HEADERS[what]
    door, token = a_door(login), a_token(login).removeprefix("Bearer ")
    assert (await door.admit(f"Bearer {token}")).name == "oidc:7"
    told = {k: v.replace("URL", login.url) if isinstance(v, str) else v for k, v in header.items()}
    signed = f"{_part({'alg': 'RS256', 'kid': 'r', **told})}.{token.split('.')[1]}"
    signature = key.sign(signed.encode(), PKCS1v15(), SHA256())
    with pytest.raises(Unauthorized):
        await door.admit(f"Bearer {signed}.{_text(signature)}")
    # Nobody was asked for it: the issuer's server here answers for every address of its own.
    assert login.strange == []


async def test_a_header_that_says_nothing_more_is_fine_by_the_same_means(login: Login) -> None:
    """The counter-proof: it is what is said above that is refused."""
    token = a_token(login).removeprefix("Bearer ")
    signed = f"{_part({'alg': 'RS256', 'kid': 'r'})}.{token.split('.')[1]}"
    signature = RSA.sign(signed.encode(), PKCS1v15(), SHA256())
    assert (await a_door(login).admit(f"Bearer {signed}.{_text(signature)}")).name == "oidc:7"


def _part(header: dict[str, Any]) -> str:
    return _text(json.dumps(header).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_new_keys_are_fetched_and_false_ones_do_not_flood_the_issuer(login: Login) -> None:
    door = a_door(login)
    now = [100.0]
    assert door._oidc is not None
    door._oidc._keys._clock = lambda: now[0]
    await door.admit(a_token(login))
    for number in range(50):
        with pytest.raises(Unauthorized):
            await door.admit(a_token(login, OTHER, f"false-{number}"))
    assert login.asked == 1
    login.keys = [jwk(OTHER, "new")]
    now[0] += 11
    await door.admit(a_token(login, OTHER, "new"))
    with pytest.raises(Unauthorized):
        await door.admit(a_token(login))


async def test_an_issuer_that_is_away_is_no_reason_to_refuse_whom_it_signed_for(
    login: Login,
) -> None:
    door = a_door(login)
    now = [100.0]
    assert door._oidc is not None
    door._oidc._keys._clock = lambda: now[0]
    login.away = True
    for _ in range(3):
        with pytest.raises(Unavailable):
            await door.admit(a_token(login))
    assert login.greeted == 1
    login.away = False
    now[0] += 2
    await door.admit(a_token(login))
    login.away = True
    now[0] += 7200
    assert (await door.admit(a_token(login))).name == "oidc:7"


async def test_an_issuer_that_is_another_is_not_believed(login: Login) -> None:
    login.name = "https://elsewhere.example.org"
    with pytest.raises(Unavailable):
        await a_door(login).admit(a_token(login))


async def test_many_first_callers_ask_the_issuer_once(login: Login) -> None:
    door = a_door(login)
    await asyncio.gather(*(door.admit(a_token(login)) for _ in range(20)))
    assert login.asked == 1


async def test_keys_and_tokens_can_be_used_side_by_side(login: Login, tmp_path: Path) -> None:
    both = Door(
        IdentitySettings(
            api_keys_file=str(a_file(tmp_path)),
            oidc=Issuer(issuer=login.url, audience="orchestrator"),
        )
    )
    assert (await both.admit(f"bearer {KEYS['one']}")).name == "one"
    assert (await both.admit(a_token(login))).name == "oidc:7"
    for wrong in ("Basic b25lOm9uZQ==", "Bearer", "Bearer  ", "", f"Token {KEYS['one']}"):
        with pytest.raises(ApiError):
            await both.admit(wrong)


def test_symmetric_algorithms_cannot_be_configured() -> None:
    with pytest.raises(ValidationError):
        Issuer.model_validate({"issuer": "https://x", "audience": "a", "algorithms": ["HS256"]})
