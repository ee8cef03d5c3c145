"""Settings of the API, from the environment; the chart sets them all."""

from orchestrator_wire.settings import WireSettings


class Settings(WireSettings):
    """The API's own: its three ports."""

    port: int = 5000
    gateway_port: int = 8081
    canary_port: int = 8082
