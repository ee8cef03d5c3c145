"""From the old orchestrator's environment to services and quotas, as YAML to review and commit.

What it reads: SERVICE_<NAME>_RUNS_PER_USER (5), SERVICE_<NAME>_MAX_RUNS (10), MAX_AGE (seconds,
864000). The defaults are the old system's. What has no counterpart here is named in a comment.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator_crds.meta import API_VERSION

USAGE = "Usage: hack/migrate [ENV_FILE | -]"
_SERVICE = re.compile(r"SERVICE_([^_]+)_(\w+)")
_LINE = re.compile(r"\s*(?:export\s+|-\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*[=:]\s*(.*)")
# The old system did the same by polling clients, which there are none of any more.
_GONE = {"UPLOAD_URL", "DOWNLOAD_URL", "TERMINATE_URL"}
_ELSEWHERE = {"PORT", "DB_PATH", "DATA_PATH"}


class BadEnvironment(Exception):  # noqa: N818
    """The environment cannot be read; the message says which line, and why."""


def read(lines: Iterable[str]) -> dict[str, str]:
    """Return the variables of an env file, or of a compose file's `environment`."""
    found = {}
    for line in lines:
        match = _LINE.fullmatch(line.rstrip())
        if match and not line.lstrip().startswith("#"):
            found[match[1]] = match[2].split(" #")[0].strip().strip("\"'")
    return found


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise BadEnvironment(f"{name} is {text!r}, which is no number.")
    return int(text)


def convert(env: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a service and a quota for each service of *env*; raises BadEnvironment."""
    names = sorted({m[1] for variable in env if (m := _SERVICE.fullmatch(variable))})
    if not names:
        raise BadEnvironment("There is no variable SERVICE_<NAME>_..., so there is no service.")
    kept = _number(env, "MAX_AGE", 864000)
    objects = []
    for name in names:
        service = name.lower()
        retention = {"resultsSeconds": kept, "failedSeconds": kept}
        objects.append(_object("OrchestratorService", service, {
            "image": f"CHANGE-ME/{service}:CHANGE-ME", "nodePools": ["cpu"], "retention": retention,
        }))  # fmt: skip
        objects.append(_object("OrchestratorQuota", service, {
            "services": [service],
            "maxRunning": _number(env, f"SERVICE_{name}_MAX_RUNS", 10),
            "maxRunningPerUser": _number(env, f"SERVICE_{name}_RUNS_PER_USER", 5),
        }))  # fmt: skip
    return objects


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def notes(env: Mapping[str, str]) -> list[str]:
    """Return what an administrator must still do or know, as sentences."""
    found = [
        "Put the image that runs each service's run.sh in place of CHANGE-ME, and check nodePools, "
        "resources and deadlineSeconds (the old system had no limit of time or memory)."
    ]
    if any((m := _SERVICE.fullmatch(v)) and m[2] in _GONE for v in env):
        found.append("The *_URL variables are not needed: jobs run in pods, not on clients.")
    if here := sorted(_ELSEWHERE & set(env)):
        found.append(f"{', '.join(here)}: see charts/orchestrator/values.yaml instead.")
    return found


def main(words: list[str]) -> int:
    """Convert the file named in *words*, or standard input; returns the exit code."""
    if len(words) != 1 or words[0] in {"-h", "--help"}:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        text = sys.stdin.read() if words[0] == "-" else Path(words[0]).read_text()
        env = read(text.splitlines())
        objects = convert(env)
    except (OSError, UnicodeDecodeError, BadEnvironment) as error:
        print(f"{words[0]}: {error}", file=sys.stderr)
        return 1
    print("".join(f"# {note}\n" for note in notes(env)), end="")
    print(yaml.safe_dump_all(objects, sort_keys=False, explicit_start=True), end="")
    return 0
