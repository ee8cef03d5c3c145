"""Settings that API and operator share, from the environment; the chart sets them all."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator_wire.s3 import Location


class WireSettings(BaseSettings):
    """Where Kubernetes' namespaces and the object store are."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_", frozen=True)

    namespace: str = Field(description="Namespace of API, operator and the operator's Lease.")
    jobs_namespace: str = Field(description="Namespace of jobs, services, quotas and pools.")
    s3_endpoint: str = Field(description="HOST:PORT of the object store.")
    s3_secure: bool = False
    s3_region: str = "us-east-1"
    s3_bucket: str = "orchestrator"
    s3_access_key: str
    s3_secret_key: str
    s3_encryption: str = Field(default="", description="AES256, aws:kms, or nothing.")
    s3_kms_key_id: str = ""
    callback_hosts: tuple[str, ...] = Field(
        default=(), description="Hosts that may be told of jobs' ends, as a JSON list."
    )
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
            encryption=self.s3_encryption,
            kms_key_id=self.s3_kms_key_id,
        )
