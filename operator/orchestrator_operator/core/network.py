"""Where jobs of a service may connect to, as a NetworkPolicy beside the chart's that shuts all."""

from typing import Any

from orchestrator_crds import OrchestratorService, labels
from orchestrator_crds.meta import API_VERSION

# Found again by it.
OURS = {"app.kubernetes.io/managed-by": "orchestrator-operator"}


def policy(service: OrchestratorService, namespace: str) -> dict[str, Any] | None:
    """Return the policy of *service* as a manifest, or None when its jobs reach nobody."""
    if not service.spec.egress:
        return None
    name = service.metadata.name
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": f"egress-{name}",
            "namespace": namespace,
            "labels": {**OURS, labels.SERVICE: name},
            # It goes with its service.
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "OrchestratorService",
                    "name": name,
                    "uid": service.metadata.uid,
                }
            ],
        },
        "spec": {
            "podSelector": {"matchLabels": {labels.SERVICE: name}},
            "policyTypes": ["Egress"],
            "egress": [
                {
                    "to": [{"ipBlock": {"cidr": rule.cidr}}],
                    "ports": [port.to_dict() for port in rule.ports],
                }
                for rule in service.spec.egress
            ],
        },
    }


def stands(wanted: dict[str, Any], found: dict[str, Any]) -> bool:
    """Return whether a policy in the cluster is as *wanted*."""
    old, new = found.get("metadata") or {}, wanted["metadata"]
    return bool(
        found.get("spec") == wanted["spec"]
        and old.get("labels") == new["labels"]
        and old.get("ownerReferences") == new["ownerReferences"]
    )
