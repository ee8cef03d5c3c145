"""Settings of the operator, from the environment; the chart sets them all."""

from importlib import resources

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator_wire.s3 import Location


class Settings(BaseSettings):
    """Where things are and how long to wait."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_", frozen=True)

    namespace: str = Field(description="Namespace of the operator and its Lease.")
    jobs_namespace: str = Field(description="Namespace of jobs, services, quotas and pools.")
    pod_name: str = Field(description="Name of this pod, for people who read the Lease.")
    pod_uid: str = Field(description="Uid of this pod: its identity in the Lease.")
    agent_image: str = Field(description="Image of the agent in every job's pod.")
    agent_pull_policy: str = "IfNotPresent"
    gateway_host: str = Field(description="Name of the gateway's Service, looked up for each pod.")
    gateway_port: int = 8081
    s3_endpoint: str = Field(description="HOST:PORT of the object store.")
    s3_secure: bool = False
    s3_region: str = "us-east-1"
    s3_bucket: str = "orchestrator"
    s3_access_key: str
    s3_secret_key: str
    probe_port: int = 8080
    lease_seconds: int = 15
    relist_seconds: float = 30.0
    sweep_seconds: float = 3600.0
    log_level: str = "INFO"

    @property
    def store(self) -> Location:
        """Return where the object store is."""
        return Location(
            endpoint=self.s3_endpoint,
            region=self.s3_region,
            bucket=self.s3_bucket,
            access_key=self.s3_access_key,
            secret_key=self.s3_secret_key,
            secure=self.s3_secure,
        )


def wrapper_text() -> str:
    """Return the script that is PID 1 of every job's main container."""
    return resources.files("orchestrator_agent").joinpath("wrapper.sh").read_text()
