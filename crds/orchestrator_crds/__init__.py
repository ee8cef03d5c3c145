"""The contract between API, operator and administrators.

The models here are the custom resources; `hack/gen` writes the YAML from them. Nothing in this
package does I/O or reads a clock: import-linter keeps it so.
"""

from orchestrator_crds.job import JobSpec, JobStatus, OrchestratorJob
from orchestrator_crds.lifecycle import IllegalTransition, Phase, Reason, advance
from orchestrator_crds.meta import GROUP, VERSION, Condition, Metadata, Resource
from orchestrator_crds.nodepool import NodePoolSpec, OrchestratorNodePool
from orchestrator_crds.quota import Limits, OrchestratorQuota, QuotaSpec
from orchestrator_crds.service import OrchestratorService, ServiceSpec

KINDS: tuple[type[Resource], ...] = (
    OrchestratorJob,
    OrchestratorService,
    OrchestratorQuota,
    OrchestratorNodePool,
)

__all__ = [
    "GROUP",
    "KINDS",
    "VERSION",
    "Condition",
    "IllegalTransition",
    "JobSpec",
    "JobStatus",
    "Limits",
    "Metadata",
    "NodePoolSpec",
    "OrchestratorJob",
    "OrchestratorNodePool",
    "OrchestratorQuota",
    "OrchestratorService",
    "Phase",
    "QuotaSpec",
    "Reason",
    "Resource",
    "ServiceSpec",
    "advance",
]
