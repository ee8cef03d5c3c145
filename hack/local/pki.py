"""Certificates and kubeconfigs of the local cluster, all from one throw-away authority."""

import base64
from pathlib import Path

import trustme
import yaml

from local.paths import KUBERNETES_IP, LINK_NODE, NODE, STATE

SERVER = f"https://{LINK_NODE}:6443"
FOLDER = STATE / "pki"

# Kubeconfig name -> (user, group) as Kubernetes reads them from a client certificate.
CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", "system:kube-controller-manager"),
    "scheduler": ("system:kube-scheduler", "system:kube-scheduler"),
    "proxy": ("system:kube-proxy", "system:node-proxier"),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    # CoreDNS and the NetworkPolicy controller read the whole cluster, as their charts let them.
    "network": ("local-network", "system:masters"),
}


def create() -> None:
    """Write the authority, every certificate, every kubeconfig and the token key, once."""
    if FOLDER.exists():
        return
    fresh = FOLDER.with_suffix(".new")
    fresh.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(fresh / "ca.crt")
    _serving(
        authority,
        fresh / "apiserver",
        "kubernetes.default.svc",
        "kubernetes.default",
        "kubernetes",
        "localhost",
        KUBERNETES_IP,
        LINK_NODE,
        "127.0.0.1",
    )
    _serving(authority, fresh / "kubelet-server", NODE, LINK_NODE)
    # The API server reaches the kubelet as itself; tokens are signed with a key of their own.
    _client(authority, fresh / "kubelet-client", "kube-apiserver", "system:masters")
    tokens = authority.issue_cert("service-accounts", key_type=trustme.KeyType.RSA)
    tokens.private_key_pem.write_to_path(fresh / "service-accounts.key")
    for name, (user, group) in CLIENTS.items():
        _client(authority, fresh / name, user, group)
        (fresh / f"{name}.kubeconfig").write_text(_kubeconfig(fresh, name))
    for key in fresh.glob("*.key"):
        key.chmod(0o600)
    fresh.rename(FOLDER)


def _serving(authority: trustme.CA, stem: Path, *names: str) -> None:
    _write(stem, authority.issue_cert(*names, key_type=trustme.KeyType.ECDSA))


def _client(authority: trustme.CA, stem: Path, user: str, group: str) -> None:
    # Go refuses a certificate whose list of names is there but empty.
    _write(
        stem,
        authority.issue_cert(
            "client.invalid",
            common_name=user,
            organization_name=group,
            key_type=trustme.KeyType.ECDSA,
        ),
    )


def _write(stem: Path, certificate: trustme.LeafCert) -> None:
    certificate.private_key_pem.write_to_path(stem.with_suffix(".key"))
    stem.with_suffix(".crt").write_bytes(
        b"".join(part.bytes() for part in certificate.cert_chain_pems)
    )


def _kubeconfig(folder: Path, name: str) -> str:
    def data(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "local",
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": name}}],
            "clusters": [
                {
                    "name": "local",
                    "cluster": {"server": SERVER, "certificate-authority-data": data("ca.crt")},
                }
            ],
            "users": [
                {
                    "name": name,
                    "user": {
                        "client-certificate-data": data(f"{name}.crt"),
                        "client-key-data": data(f"{name}.key"),
                    },
                }
            ],
        }
    )
