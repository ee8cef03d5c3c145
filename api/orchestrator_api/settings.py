"""Settings of the API, from the environment; the chart sets them all."""

from pydantic import Field

from orchestrator_api.identity.door import IdentitySettings
from orchestrator_wire.settings import WireSettings


class Settings(WireSettings):
    """The API's own: its three ports, and where the operator answers."""

    port: int = 5000
    gateway_port: int = 8081
    canary_port: int = 8082
    operator_host: str = Field(description="Name that stands for all of the operator's pods.")
    operator_port: int = 8083
    identity: IdentitySettings = Field(
        default_factory=IdentitySettings, description="How callers are known, as JSON."
    )
    tls_directory: str = Field(
        default="", description="Where tls.crt and tls.key are, if the public port speaks TLS."
    )
