"""What the operator told the agent, by environment."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where the gateway is, and where the pod's shared folders and token are."""

    gateway: str
    work: Path
    scratch: Path
    job: Path
    token: Path
    upload_seconds: float
    isolation_required: bool
    result_bytes: int
    disk_bytes: int
    snapshot_bytes: int

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the settings; raises KeyError when one is missing."""
        env = os.environ
        return cls(
            gateway=env["GATEWAY"],
            work=Path(env.get("WORK", "/work")),
            scratch=Path(env.get("SCRATCH", "/scratch")),
            job=Path(env.get("JOB", "/job")),
            token=Path(env.get("TOKEN", "/token/token")),
            upload_seconds=float(env["UPLOAD_SECONDS"]),
            isolation_required=env["NETWORK_ISOLATION"] == "Required",
            result_bytes=int(env["RESULT_BYTES"]),
            disk_bytes=int(env["DISK_BYTES"]),
            snapshot_bytes=int(env["SNAPSHOT_BYTES"]),
        )
