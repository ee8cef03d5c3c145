"""Tokens of pods: signature, audience, issuer, expiry, namespace and pod, against real keys."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from orchestrator_api.identity.keyset import BadToken
from orchestrator_api.tokens import Caller, Tokens
from orchestrator_crds.names import audience
from orchestrator_wire.kube import Kube
from tests.support.fake_kube import FakeKube

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
