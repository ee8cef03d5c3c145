"""The old orchestrator's environment, read and turned into resources."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from local.migrate import BadEnvironment, convert, main, notes, read
from orchestrator_crds import OrchestratorQuota, OrchestratorService

OLD = """
# The old server
PORT=5000
MAX_AGE=172800
SERVICE_DOCKING_UPLOAD_URL=http://docking:9000/submit
SERVICE_DOCKING_RUNS_PER_USER="3"
export SERVICE_DOCKING_MAX_RUNS=40 # more at night
SERVICE_EXAMPLE_UPLOAD_URL=http://example:9000/submit
"""
COMPOSE = """
services:
  server:
    environment:
      SERVICE_EXAMPLE_RUNS_PER_USER: 2
      - SERVICE_DISVIS_MAX_RUNS=7
"""


def converted(text: str) -> dict[tuple[str, str], Any]:
    return {(o["kind"], o["metadata"]["name"]): o["spec"] for o in convert(read(text.splitlines()))}


def test_an_env_file() -> None:
    found = converted(OLD)
    assert {name for _, name in found} == {"docking", "example"}
    assert found["OrchestratorQuota", "docking"] == {
        "services": ["docking"], "maxRunning": 40, "maxRunningPerUser": 3,
    }  # fmt: skip
    # The old system's defaults.
    assert found["OrchestratorQuota", "example"]["maxRunning"] == 10
    assert found["OrchestratorQuota", "example"]["maxRunningPerUser"] == 5
    retention = found["OrchestratorService", "docking"]["retention"]
    assert retention == {"resultsSeconds": 172800, "failedSeconds": 172800}


def test_the_environment_of_a_compose_file() -> None:
    found = converted(COMPOSE)
    assert found["OrchestratorQuota", "example"]["maxRunningPerUser"] == 2
    assert found["OrchestratorQuota", "disvis"]["maxRunning"] == 7


def test_the_resources_are_valid() -> None:
    for body in convert(read(OLD.splitlines())):
        kind = {"OrchestratorQuota": OrchestratorQuota, "OrchestratorService": OrchestratorService}
        kind[body["kind"]].parse(body)


@pytest.mark.parametrize(
    ("text", "message"),
    [("SERVICE_A_MAX_RUNS=many", "'many', which is no number"), ("PORT=1", "there is no service")],
)
def test_what_cannot_be_converted(text: str, message: str) -> None:
    with pytest.raises(BadEnvironment, match=message):
        converted(text)


def test_what_is_left_to_do_is_said() -> None:
    said = " ".join(notes(read(OLD.splitlines())))
    assert "CHANGE-ME" in said
    assert "_URL variables are not needed" in said
    assert "PORT: see charts" in said


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "old.env"
    file.write_text(OLD)
    assert main([str(file)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# Put the image")
    assert len(list(yaml.safe_load_all(out))) == 4
    assert main([str(tmp_path / "none")]) == 1
    assert main([]) == 2
