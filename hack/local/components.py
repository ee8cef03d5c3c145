"""The table of processes that make up the cluster: how each is run and when it is ready."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from local import configs, pki
from local.configs import CONFIG
from local.paths import (
    AUDIT_LOG,
    CONTAINERD_SOCKET,
    DNS_IP,
    LINK_NODE,
    NODE,
    POD_NETWORK,
    SERVICE_NETWORK,
    STATE,
    VOLUME,
)
from local.toolchain import BIN

POOL_LABELS = "orchestrator.dev/pool=cpu"


@dataclass(frozen=True)
class Component:
    """A process: its command line, what tells that it is ready, what must be ready before it."""

    argv: tuple[str, ...]
    ready: Callable[[], bool]
    after: tuple[str, ...] = ()


def _answers(url: str) -> Callable[[], bool]:
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE

    def probe() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=1, context=unverified) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    return probe


def _kubeconfig(name: str) -> str:
    return f"--kubeconfig={pki.FOLDER}/{name}.kubeconfig"


def _program(name: str, *flags: str) -> tuple[str, ...]:
    return (str(BIN / name), *flags)


def components(sandbox_image: str) -> dict[str, Component]:
    """Write the configuration files and return the table, in the order of starting."""
    CONFIG.mkdir(parents=True, exist_ok=True)
    (CONFIG / "containerd.toml").write_text(configs.containerd(sandbox_image))
    (CONFIG / "gvisor.toml").write_text(configs.gvisor())
    (CONFIG / "audit.yaml").write_text(yaml.safe_dump(configs.AUDIT))
    (CONFIG / "kubelet.yaml").write_text(yaml.safe_dump(configs.kubelet()))
    (CONFIG / "Corefile").write_text(configs.corefile())
    cni = CONFIG / "cni"
    cni.mkdir(exist_ok=True)
    (cni / "10-bridge.conflist").write_text(json.dumps(configs.CNI, indent=2))
    return {
        "etcd": _etcd(),
        "containerd": Component(
            _program("containerd", f"--config={CONFIG}/containerd.toml"), CONTAINERD_SOCKET.exists
        ),
        "kube-apiserver": _apiserver(),
        "kube-controller-manager": _controller_manager(),
        "kube-scheduler": Component(
            _program(
                "kube-scheduler",
                _kubeconfig("scheduler"),
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
            ),
            _answers("https://127.0.0.1:10259/healthz"),
            after=("kube-apiserver",),
        ),
        "kubelet": Component(
            _program(
                "kubelet",
                f"--config={CONFIG}/kubelet.yaml",
                _kubeconfig("kubelet"),
                f"--hostname-override={NODE}",
                f"--node-ip={LINK_NODE}",
                # Where gVisor looks for the volumes of pods. The cluster has a /var/lib of its own.
                "--root-dir=/var/lib/kubelet",
                f"--node-labels={POOL_LABELS}",
            ),
            _answers("http://127.0.0.1:10248/healthz"),
            after=("kube-apiserver", "containerd"),
        ),
        "kube-proxy": Component(
            _program(
                "kube-proxy",
                _kubeconfig("proxy"),
                "--proxy-mode=nftables",
                "--conntrack-max-per-core=0",
                f"--hostname-override={NODE}",
                f"--cluster-cidr={POD_NETWORK}",
            ),
            _answers("http://127.0.0.1:10256/livez"),
            after=("kube-apiserver",),
        ),
        "coredns": Component(
            _program("coredns", f"-conf={CONFIG}/Corefile"),
            _answers(f"http://{LINK_NODE}:8181/ready"),
            after=("kube-apiserver",),
        ),
        # Only as NetworkPolicy controller; it needs the node object, so the kubelet first.
        "kube-router": Component(
            _program(
                "kube-router",
                _kubeconfig("network"),
                "--run-firewall=true",
                "--run-router=false",
                "--run-service-proxy=false",
                "--run-loadbalancer=false",
                f"--hostname-override={NODE}",
                f"--service-cluster-ip-range={SERVICE_NETWORK}",
                "--health-port=20244",
                "--metrics-port=0",
            ),
            _answers("http://127.0.0.1:20244/healthz"),
            after=("kubelet",),
        ),
    }


def _etcd() -> Component:
    return Component(
        _program(
            "etcd",
            f"--data-dir={STATE}/etcd",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
        ),
        _answers("http://127.0.0.1:2379/health"),
    )


def _apiserver() -> Component:
    keys = pki.FOLDER
    return Component(
        _program(
            "kube-apiserver",
            f"--advertise-address={LINK_NODE}",
            "--allow-privileged=true",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--client-ca-file={keys}/ca.crt",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--kubelet-certificate-authority={keys}/ca.crt",
            f"--kubelet-client-certificate={keys}/kubelet-client.crt",
            f"--kubelet-client-key={keys}/kubelet-client.key",
            # `kubectl logs` would else look up the node's name, which no DNS here knows.
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={keys}/service-accounts.key",
            f"--service-account-signing-key-file={keys}/service-accounts.key",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            f"--tls-cert-file={keys}/apiserver.crt",
            f"--tls-private-key-file={keys}/apiserver.key",
            f"--audit-policy-file={CONFIG}/audit.yaml",
            f"--audit-log-path={AUDIT_LOG}",
            "--audit-log-maxsize=200",
        ),
        _answers("https://127.0.0.1:6443/readyz"),
        after=("etcd",),
    )


def _controller_manager() -> Component:
    return Component(
        _program(
            "kube-controller-manager",
            _kubeconfig("controller-manager"),
            "--allocate-node-cidrs=true",
            "--bind-address=127.0.0.1",
            f"--cluster-cidr={POD_NETWORK}",
            "--leader-elect=false",
            f"--root-ca-file={pki.FOLDER}/ca.crt",
            f"--service-account-private-key-file={pki.FOLDER}/service-accounts.key",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            "--use-service-account-credentials=true",
        ),
        _answers("https://127.0.0.1:10257/healthz"),
        after=("kube-apiserver",),
    )


def system_objects() -> list[dict[str, Any]]:
    """Return what a fresh cluster lacks: a name for the CoreDNS process, and a volume."""
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"clusterIP": DNS_IP, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata | {"labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [LINK_NODE], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "object-store"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "20Gi"},
                "hostPath": {"path": str(VOLUME)},
                "storageClassName": "local",
            },
        },
    ]


def folders() -> tuple[Path, ...]:
    """Return the folders that must exist before anything starts."""
    return (STATE / "logs", STATE / "var/lib", STATE / "var/log", CONFIG)
