"""Configuration files of the local cluster's processes."""

from typing import Any

from local import pki
from local.paths import (
    CGROUP,
    CONTAINERD_SOCKET,
    DNS_IP,
    NAMESPACE,
    NODE_POD_NETWORK,
    RELEASE,
    STATE,
)
from local.toolchain import BIN, GVISOR, GVISOR_SHIM

CONFIG = STATE / "config"

# Who asked for what, for tests that count requests: our objects and pods, without bodies. Of reads,
# only those of the API.
AUDIT: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "Metadata",
            "users": [f"system:serviceaccount:{NAMESPACE}:{RELEASE}-api"],
            "verbs": ["get", "list", "watch"],
            "resources": [{"group": "orchestrator.dev"}],
        },
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {
            "level": "Metadata",
            "resources": [
                {"group": "orchestrator.dev"},
                {"group": "", "resources": ["pods", "pods/*"]},
                {"group": "coordination.k8s.io"},
            ],
        },
        {"level": "None"},
    ],
}

CNI: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "bridge",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(STATE / "cni"),
                "ranges": [[{"subnet": NODE_POD_NETWORK}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
        # kube-router's rules are for IPv4. Without this, every pod has an address of IPv6 that is
        # good on its bridge, and reaches its node and all neighbours there, whatever its policy.
        {"type": "tuning", "sysctl": {"net.ipv6.conf.eth0.disable_ipv6": "1"}},
    ],
}


def kubelet() -> dict[str, Any]:
    """Return the kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"x509": {"clientCAFile": f"{pki.FOLDER}/ca.crt"}},
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        # The images here are imported, not pulled: a collected one would be gone for good.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "200Mi",
            "imagefs.available": "200Mi",
            # The kubelet's own default, which is gone once any other is set.
            "nodefs.inodesFree": "5%",
            "imagefs.inodesFree": "5%",
        },
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        # Thousands that fork for ever take ten minutes to die within a job's share of the CPU.
        "podPidsLimit": 1024,
        "resolvConf": "",
        "serializeImagePulls": False,
        "tlsCertFile": f"{pki.FOLDER}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{pki.FOLDER}/kubelet-server.key",
    }


def containerd(sandbox_image: str) -> str:
    """Return containerd's configuration; *sandbox_image* holds each pod's namespaces."""
    return f"""\
version = 3
root = '{STATE}/containerd'
state = '/run/containerd'

[grpc]
address = '{CONTAINERD_SOCKET}'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{sandbox_image}'

[plugins.'io.containerd.cri.v1.runtime']
# Without CAP_SYS_RESOURCE no score can be lowered, and every sandbox would fail.
restrict_oom_score_adj = true
# Folders that an image would have writable: nothing counts what jobs put there.
ignore_image_defined_volumes = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '{CONFIG}/cni'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{BIN}/runc'
SystemdCgroup = false

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runsc]
runtime_type = 'io.containerd.runsc.v1'
runtime_path = '{GVISOR_SHIM}'
# By which a pod tells gVisor the volumes that its containers share. Others of gVisor's open ways to
# the node.
pod_annotations = ['dev.gvisor.spec.mount.*']

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runsc.options]
TypeUrl = 'io.containerd.runsc.v1.options'
ConfigPath = '{CONFIG}/gvisor.toml'
"""


def gvisor() -> str:
    """Return the configuration of gVisor's shim."""
    # Without `oci-seccomp`: it refuses clone3 with EPERM where the profile says ENOSYS, so that
    # programs of any recent C library could start no threads.
    return f"binary_name = '{GVISOR}'\n"


def corefile() -> str:
    """Return CoreDNS's configuration."""
    return f"""\
.:53 {{
    errors
    ready
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {pki.FOLDER}/network.kubeconfig
    }}
    cache 5
}}
"""
