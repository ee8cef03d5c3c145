"""Callers with keys, over TLS, at the real door: what each may do, and keys that change meanwhile."""

import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from local.paths import NAMESPACE, RELEASE
from tests.cluster.inside import PORT, served
from tests.cluster.keys import a_secret, asked, bearer, give
from tests.cluster.place import Place, until

CALLERS: dict[str, dict[str, Any]] = {
    "one": {"role": "user", "user": "1"},
    "two": {"role": "user", "user": "2"},
    "portal": {"role": "portal", "users": ["*"], "services": ["docking"]},
    "new": {"role": "administrator"},
}


def of(*names: str) -> dict[str, dict[str, Any]]:
    return {name: CALLERS[name] for name in names}


def test_where_nobody_is_asked_the_log_says_so_from_the_start(place: Place) -> None:
    log = place.kubectl("logs", f"deployment/{RELEASE}-api", f"--namespace={NAMESPACE}")
    assert log.count("Nobody is asked who they are") == 1


@pytest.fixture
def door(place: Place) -> Iterator[httpx2.Client]:
    """Give a client of the API while that speaks TLS and asks for keys."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    a_secret(
        place,
        "test-tls",
        "kubernetes.io/tls",
        tls_crt=b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
        tls_key=certificate.private_key_pem.bytes(),
    )
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    url = place.front.replace("http:", "https:")
    asking = asked(
        place, "test-keys", of("one", "two", "portal"), "api.tls.existingSecret=test-tls",
        door=url, trust=trust,
    )  # fmt: skip
    try:
        with asking, httpx2.Client(base_url=url, verify=trust, timeout=30) as client:
            yield client
    finally:
        place.kubectl("delete", "secret", "test-tls", f"--namespace={NAMESPACE}")


def test_callers_with_keys_get_what_is_theirs_and_nothing_else(
    place: Place, door: httpx2.Client
) -> None:
    def ask(verb: str, path: str, who: str = "", **more: Any) -> httpx2.Response:
        return door.request(verb, path, headers=bearer(who), **more)

    def upload(who: str, user: int = 1) -> httpx2.Response:
        return ask(
            "POST", "/upload", who,
            data={"user_id": str(user), "service": "example"}, files=[("file", ("run.sh", b"true"))],
        )  # fmt: skip

    assert "Nobody is asked" not in ask("GET", "/health").headers.get("warning", "")
    answers = [upload(who).status_code for who in ("", "false", "two", "portal")]
    assert answers == [401, 401, 403, 403]
    made = upload("one")
    assert made.status_code == 201
    number = made.json()["id"]
    place.made.append(f"orchestratorjob/job-{number}")
    for who, status in (("", 401), ("two", 404), ("portal", 404), ("one", 200)):
        assert ask("GET", f"/download/{number}", who).status_code == status
    # The agents' door is another: it knows pods by their tokens, as before.
    until(
        lambda: ask("GET", f"/download/{number}", "one").headers["content-type"].endswith("zip"),
        "its owner has the results",
    )
    assert ask("GET", f"/download/{number}", "two").status_code == 404

    assert ask("GET", f"/download/{number}", "new").status_code == 401
    give(place, "test-keys", of("one", "new"))
    # Kubelets look once a minute, and at once when something about the pod changes.
    place.kubectl(
        "annotate", "pod", f"--namespace={NAMESPACE}", "--overwrite", "example.org/look=now",
        "--selector=app.kubernetes.io/component=api",
    )  # fmt: skip
    path = f"/download/{number}"
    until(lambda: ask("GET", path, "new").status_code == 200, "the new key holds", 150)
    assert ask("GET", path, "two").status_code == 401


# Tells what it is and its keys, as an OpenID Connect provider does.
ISSUER = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = ANSWERS.get(self.path)
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def test_callers_with_tokens_of_an_issuer_are_who_it_says(place: Place) -> None:
    url = f"http://issuer.{NAMESPACE}.svc:{PORT}"
    key, other = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in "12")
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    answers = {
        "/.well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/keys"},
        "/keys": {"keys": [{**public, "kid": "k", "alg": "RS256", "use": "sig"}]},
    }

    def token(user: str, signed_by: Any = key, **more: Any) -> str:
        claims = {"iss": url, "aud": "jobs", "sub": user, "exp": int(time.time()) + 600, **more}
        return jwt.encode(claims, signed_by, "RS256", headers={"kid": "k"})

    form = {
        "data": {"user_id": "1", "service": "example"},
        "files": [("file", ("run.sh", b"true"))],
    }

    def uploaded(bearer: str) -> int:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        answer = httpx2.post(f"{place.front}/upload", headers=headers, timeout=30, **form)  # type: ignore[arg-type]
        if answer.status_code == 201:
            place.made.append(f"orchestratorjob/job-{answer.json()['id']}")
        return answer.status_code

    with (
        served(place, "issuer", f"ANSWERS = {answers!r}{ISSUER}"),
        place.configured(f"identity.oidc.issuer={url}", "identity.oidc.audience=jobs"),
    ):
        # For a moment yet, the replica before answers, which asks nobody.
        until(lambda: uploaded("") == 401, "callers are asked who they are")
        assert uploaded(token("1")) == 201
        assert uploaded(token("2")) == 403
        for false in (
            token("1", other), token("1", aud="others"), token("1", exp=1), token("1", iss="http://x"),
        ):  # fmt: skip
            assert uploaded(false) == 401
