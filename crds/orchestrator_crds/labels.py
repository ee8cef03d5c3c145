"""Every label and annotation key that we put on objects, and what it is for."""

from orchestrator_crds.meta import GROUP

# On pods: the job it runs. Selects our pods in watches, NetworkPolicies and `kubectl get pods`.
JOB = f"{GROUP}/job"
# On pods: which attempt at the job this is, counted from 1.
ATTEMPT = f"{GROUP}/attempt"
# On pods: what they count against, so that a pod whose job is gone still holds its quota.
SERVICE = f"{GROUP}/service"
POOL = f"{GROUP}/pool"
# An annotation, since a user's name may be anything.
USER = f"{GROUP}/user"
