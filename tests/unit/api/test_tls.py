"""A certificate that is renewed while the port is open."""

import contextlib
import logging
import ssl
from pathlib import Path

import pytest
import trustme

from orchestrator_api.tls import Certificate

NAME = "orchestrator.example.org"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def put(where: Path, chain: trustme.LeafCert, key: trustme.LeafCert) -> None:
    (where / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in chain.cert_chain_pems))
    (where / "tls.key").write_bytes(key.private_key_pem.bytes())


def shown(server: ssl.SSLContext, authority: trustme.CA) -> bytes:
    """Return the certificate that a new client is shown; raises SSLError."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(up, down, server_side=True)
    theirs = trusting.wrap_bio(down, up, server_hostname=NAME)
    for side in (theirs, ours, theirs, ours):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    found = theirs.getpeercert(binary_form=True)
    assert found
    return found


def test_a_renewed_certificate_is_shown_and_a_wrong_one_changes_nothing(
    authority: trustme.CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = authority.issue_cert(NAME), authority.issue_cert(NAME)
    put(tmp_path, old, old)
    certificate = Certificate(str(tmp_path))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate.chain, certificate.key)
    first = shown(server, authority)

    def look() -> bytes:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            certificate.look(server)
        return shown(server, authority)

    assert look() == first
    assert not caplog.text
    # Half of it is there; none; something else.
    put(tmp_path, new, old)
    assert look() == first
    assert "stays as it was" in caplog.text
    (tmp_path / "tls.key").unlink()
    assert look() == first
    assert "stays as it was" in caplog.text
    put(tmp_path, new, new)
    (tmp_path / "tls.crt").write_text("-----BEGIN CERTIFICATE-----\nnone\n")
    assert look() == first
    assert "stays as it was" in caplog.text
    put(tmp_path, new, new)
    assert look() != first
    assert "read anew" in caplog.text
