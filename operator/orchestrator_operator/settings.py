"""Settings of the operator, from the environment; the chart sets them all."""

from importlib import resources

from pydantic import Field

from orchestrator_wire.settings import WireSettings


class Settings(WireSettings):
    """The operator's own: who it is, what pods need to know, how long to wait."""

    pod_name: str = Field(description="Name of this pod, for people who read the Lease.")
    pod_uid: str = Field(description="Uid of this pod: its identity in the Lease.")
    agent_image: str = Field(description="Image of the agent in every job's pod.")
    agent_pull_policy: str = "IfNotPresent"
    gateway_host: str = Field(description="Name of the gateway's Service, looked up at the start.")
    gateway_port: int = 8081
    probe_port: int = 8080
    enquiry_port: int = 8083
    lease_seconds: int = 15
    relist_seconds: float = 30.0
    sweep_seconds: float = 3600.0
    callback_key: str = Field(default="", description="What callbacks are signed with.")


def wrapper_text() -> str:
    """Return the script that is PID 1 of every job's main container."""
    return resources.files("orchestrator_agent").joinpath("wrapper.sh").read_text()
