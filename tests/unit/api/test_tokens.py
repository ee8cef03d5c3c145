"""Tokens of pods: signature, audience, issuer, expiry, namespace and pod, against real keys."""

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, tzinfo
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from orchestrator_api.attempts import Attempts
from orchestrator_api.identity.keyset import BadToken
from orchestrator_api.tokens import Caller, Tokens
from orchestrator_crds import OrchestratorJob
from orchestrator_crds.names import audience
from orchestrator_wire.kube import Kube
from tests.support.builders import job_body
from tests.support.fake_kube import FakeKube
from tests.support.system import System

ISSUER = "https://kubernetes.default.svc"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
FOREIGN = rsa.generate_private_key(public_exponent=65537, key_size=2048)
BOUND: dict[str, Any] = {
    "namespace": "jobs",
    "pod": {"name": "job-1-1", "uid": "uid"},
    "node": {"name": "node-1"},
    "serviceaccount": {"name": "orchestrator-job"},
}
Pair = tuple[FakeKube, Kube]


def jwk(key: rsa.RSAPrivateKey, key_id: str) -> dict[str, Any]:
    return {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id}


def token(
    *,
    key: Any = KEY,
    key_id: str = "k",
    algorithm: str = "RS256",
    bound: Any = BOUND,
    **claims: Any,
) -> str:
    now = int(time.time())
    body = {
        "iss": ISSUER,
        "aud": [audience("uid-job")],
        "exp": now + 600,
        "iat": now,
        "kubernetes.io": bound,
    } | claims
    return "Bearer " + jwt.encode(body, key, algorithm=algorithm, headers={"kid": key_id})


@pytest.fixture
def tokens(cluster: Pair) -> Tokens:
    state, kube = cluster
    state.extra["/openid/v1/jwks"] = {"keys": [jwk(KEY, "k")]}
    state.extra["/.well-known/openid-configuration"] = {"issuer": ISSUER}
    return Tokens(kube, "jobs")


async def test_a_good_token_tells_pod_uid_node_and_job(tokens: Tokens) -> None:
    assert await tokens.verify(token()) == Caller("job-1-1", "uid", "node-1", "uid-job")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "Bearer ",
        "Basic abc",
        "Bearer not.a.token",
        token(exp=int(time.time()) - 10),
        token(aud=["kubernetes"]),
        token(aud=[]),
        token(aud=["orchestrator-gateway"]),
        token(aud=[audience("")]),
        # Whoever else it is for has it, too.
        token(aud=[audience("uid-job"), "kubernetes"]),
        token(iss="https://elsewhere"),
        token(key=FOREIGN),
        token(key_id="unknown"),
        token(key="x" * 32, algorithm="HS256"),
        token(bound=BOUND | {"namespace": "other"}),
        token(bound=BOUND | {"serviceaccount": {"name": "default"}}),
        token(bound={k: v for k, v in BOUND.items() if k != "pod"}),
        token(bound=None),
    ],
)  # fmt: skip
async def test_every_other_token_is_refused(tokens: Tokens, bad: str) -> None:
    with pytest.raises(BadToken):
        await tokens.verify(bad)


async def test_an_unsigned_token_is_refused(tokens: Tokens) -> None:
    body = {
        "iss": ISSUER,
        "aud": [audience("uid-job")],
        "exp": time.time() + 60,
        "kubernetes.io": BOUND,
    }
    unsigned = jwt.encode(body, "", algorithm="none", headers={"kid": "k"})
    with pytest.raises(BadToken):
        await tokens.verify(f"Bearer {unsigned}")


async def test_keys_are_asked_for_once(tokens: Tokens, cluster: Pair) -> None:
    for _ in range(5):
        await tokens.verify(token())
    assert len([r for r in cluster[0].reads if "jwks" in r]) == 1


async def test_strange_keys_do_not_make_us_ask_again_and_again(
    tokens: Tokens, cluster: Pair
) -> None:
    await tokens.verify(token())
    for _ in range(5):
        with pytest.raises(BadToken):
            await tokens.verify(token(key=FOREIGN, key_id="new"))
    assert len([r for r in cluster[0].reads if "jwks" in r]) == 1


WRITES = ("/results", "/snapshot")
JOB: dict[str, Any] = {"attempt": 1, "pod": {"name": "job-1-1", "uid": "uid", "node": "node-1"}}


@pytest.fixture
def written(
    system: System, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, float], Awaitable[list[tuple[int, bool]]]]:
    """Have a token's pod write what it may not, some time later; tells the answers, and what came of it."""
    transport: Any = system.gateway._transport
    transport.app.state.tokens = tokens
    headers = {"Authorization": token(aud=[audience("uid-job-1")])}

    async def write(phase: str, later: float) -> list[tuple[int, bool]]:
        class Later(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Any:
                return datetime.now(tz) + timedelta(seconds=later)

        monkeypatch.setattr(jwt.api_jwt, "datetime", Later)
        system.kube.put("orchestratorjobs", job_body(phase=phase, **JOB))
        found = []
        for path in WRITES:
            system.s3.objects.clear()
            answer = await system.gateway.put(path, headers=headers, content=b"again")
            found.append((answer.status_code, b"again" in system.s3.objects.values()))
        return found

    return write


MOMENTS = {
    "at once": 0,
    "shortly before it runs out": 595,
    "a second after": 601,
    "a day after": 86_400,
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_results_are_not_written_again_after_the_end(written: Any, moment: str) -> None:
    refused = 401 if MOMENTS[moment] > 600 else 409
    assert await written("Completed", MOMENTS[moment]) == [(refused, False)] * 2
    # Nor by a pod that its token has outlived, though its job goes on.
    running = (401, False) if MOMENTS[moment] > 600 else (200, True)
    assert await written("Running", MOMENTS[moment]) == [running] * 2


async def test_they_would_be_by_a_token_that_does_not_run_out_or_a_job_that_does_not_end(
    written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = jwt.decode

    def unchecked(*words: Any, **more: Any) -> Any:
        more["options"]["verify_exp"] = False
        return checked(*words, **more)

    monkeypatch.setattr(jwt, "decode", unchecked)
    assert await written("Running", 601) == [(200, True)] * 2
    assert await written("Completed", 601) == [(409, False)] * 2

    async def any_phase(attempts: Attempts, caller: Caller) -> OrchestratorJob:
        return (await attempts._read(caller))[0]

    monkeypatch.setattr(Attempts, "current", any_phase)
    assert await written("Completed", 601) == [(200, True)] * 2
