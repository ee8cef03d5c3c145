"""Bodies of our custom resources, drawn from their schemas: what an API server would let in.

They are large, so they are drawn by a random generator from one number, which is what hypothesis
chooses; it would draw small ones only.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from hypothesis import strategies as st

from local.generate import schema_of
from orchestrator_crds import Resource
from tests.support.builders import ended, meta, pod_body, stuck

TIMES = [
    "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-06-30T23:59:60Z",
    "2026-01-01T00:00:00.123456789Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    "2026-01-01t00:00:00z",
]  # fmt: skip
WORDS = [
    "example", "cpu", "1", "memory", "UTC", "Europe/Amsterdam", "../UTC", "0 3 * * *", "* * * * *",
    "@daily", "0 0 31 2 *", "0 0 29 2 *", "0 3 * * 1-5", "0 0 * * 5L", "60 * * * *", "1 2 3", "*",
    "jobs/0123456789abcdef0123456789abcdef/inputs.zip", "jobs/", "nvidia.com/gpu", "True", "Ready",
    "", "500m", "4Gi", "0", "0.0000", "9" * 31 + "P", "0.001m", "f" * 64, "https://example.org/a",
    "http://[::1]:8080?x", "\u202e", "é" * 20, "a" * 63, "PATH", "ephemeral-storage", "\0", "\n",
]  # fmt: skip
LETTERS = "aZ0-_./\\ é\u202e\0\n🧬"
LARGEST = 2**63 - 1
NAMES = {"orchestratorservices": ["example", "two"], "orchestratornodepools": ["cpu", "two"]}


def _text(schema: dict[str, Any], random: Random) -> str:
    if "enum" in schema:
        return str(random.choice(schema["enum"]))
    if schema.get("format") == "date-time":
        return random.choice(TIMES)
    least, most = schema.get("minLength", 0), schema.get("maxLength", 4096)
    pattern = re.compile(schema.get("pattern", "").replace("$", r"\Z"))
    fitting = [word for word in WORDS if least <= len(word) <= most and pattern.search(word)]
    if "pattern" in schema or random.random() < 0.7:
        return random.choice(fitting)
    return "".join(random.choices(LETTERS, k=random.randint(least, least + 4)))


def _number(schema: dict[str, Any], random: Random) -> int:
    least: int = schema.get("minimum", -LARGEST)
    most: int = schema.get("maximum", LARGEST)
    some: list[int] = [least, most, 0, 1, random.randint(0, 100), random.randint(least, most)]
    return min(max(random.choice(some), least), most)


def _list(schema: dict[str, Any], random: Random) -> list[Any]:
    count = random.randint(schema.get("minItems", 0), min(schema.get("maxItems", 3), 3))
    keys = schema.get("x-kubernetes-list-map-keys")
    found: dict[Any, Any] = {}
    for number in range(count):
        item = drawn(schema["items"], random)
        if keys:
            found[tuple(item.get(key) for key in keys)] = item
        else:
            unique = schema.get("x-kubernetes-list-type") == "set"
            found[str(item) if unique else number] = item
    return list(found.values())


def _object(schema: dict[str, Any], random: Random) -> dict[str, Any]:
    if "additionalProperties" in schema:
        count = random.randint(schema.get("minProperties", 0), 3)
        inner = schema["additionalProperties"]
        return {_text({}, random): drawn(inner, random) for _ in range(count)}
    required = schema.get("required", ())
    # Some have nearly everything, some next to nothing.
    share = random.random()
    return {
        name: drawn(inner, random)
        for name, inner in schema.get("properties", {}).items()
        if name in required or random.random() < share
    }


def drawn(schema: dict[str, Any], random: Random) -> Any:
    """Return something that a structural schema lets in; collections are short."""
    ways: dict[str, Callable[[dict[str, Any], Random], Any]] = {
        "string": _text,
        "integer": _number,
        "boolean": lambda _, random: random.random() < 0.5,
        "array": _list,
        "object": _object,
    }
    return ways[schema["type"]](schema, random)


@cache
def _schema(kind: type[Resource]) -> dict[str, Any]:
    return schema_of(kind)


def _body(kind: type[Resource], seed: int) -> dict[str, Any]:
    random, properties = Random(seed), _schema(kind)["properties"]
    name = random.choice(NAMES.get(kind.plural, ["one", "two"]))
    body = {"metadata": meta(name), "spec": drawn(properties["spec"], random)}
    if random.random() < 0.7:
        body["status"] = drawn(properties["status"], random)
    return body


def _junk(random: Random, depth: int = 0) -> Any:
    leaves: list[Any] = [None, True, -1, 10**400, 1e308, float("nan"), "", "1", "\ud800", [], {}]
    if depth == 3 or random.random() < 0.7:
        return random.choice(leaves)
    inner = [_junk(random, depth + 1) for _ in range(random.randint(0, 3))]
    return inner if random.random() < 0.5 else dict(zip(WORDS, inner, strict=False))


def _place(body: dict[str, Any], random: Random) -> tuple[Any, Any]:
    """Return some place in *body* as (what holds it, its key there); never one in its metadata."""
    node: Any = body
    key: Any = random.choice([part for part in body if part != "metadata"])
    while isinstance(node[key], dict | list) and node[key] and random.random() < 0.8:
        node = node[key]
        key = random.choice(sorted(node)) if isinstance(node, dict) else random.randrange(len(node))
    return node, key


def spoil(kind: type[Resource], seed: int) -> dict[str, Any]:
    """Return a body of which some part is anything at all."""
    random, body = Random(seed), _body(kind, seed)
    node, key = _place(body, random)
    node[key] = _junk(random)
    return body


def _pod(seed: int) -> dict[str, Any]:
    """Return a pod in some state, of which parts may be missing; types are the API server's care."""
    random = Random(seed)
    state = random.choice([ended("main"), stuck("agent", "ImagePullBackOff"), {"name": "main"}])
    status = {
        "phase": random.choice(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
        "containerStatuses": [state],
        "startTime": random.choice(TIMES),
    }
    body = pod_body(random.choice(["one", "two"]), random.randint(0, 2), status=status)
    body["metadata"]["labels"][random.choice(sorted(body["metadata"]["labels"]))] = random.choice(
        WORDS
    )
    requests = {"cpu": random.choice(WORDS), "memory": "1Gi"}
    containers = [{"name": "main", "resources": {"requests": requests}}]
    body["spec"] = {"nodeName": "node-1", "containers": containers}
    for _ in range(random.randint(0, 2)):
        node, key = _place(body, random)
        del node[key]
    return body


def _report(seed: int) -> bytes:
    """Return what an agent, or whoever has its token, may send as its last word."""
    random = Random(seed)

    def text() -> str:
        return random.choice([*WORDS, "é" * 5000, "3/10 x", "\r\n\x1b[0m"])

    report: dict[str, Any] = {
        "why": random.choice(["exit", "deadline", "disk", "terminated", "inputs", "network", "lost"]),
        "exitCode": random.choice([None, 0, 1, 137, -1, 2**31, 2**63, 10**30]),
        "oomKills": random.choice([0, 1, 10**30]),
        "message": text(), "tooLarge": text(), "resultsLost": text(), "logTail": text(),
        "progress": text(), "skippedCount": random.choice([0, 1, -1, 10**30]),
        "skipped": [text() for _ in range(random.randint(0, 3))],
    }  # fmt: skip
    if random.random() < 0.3:
        report["results"] = {"sizeBytes": 1, "sha256": "f" * 64, "etag": text()}
    if random.random() < 0.4:
        node, key = _place(report, random)
        node[key] = _junk(random)
    return json.dumps(report).encode()[: random.choice([None, None, None, 20])]


SEEDS = st.integers(0, 2**32)
JUNK = SEEDS.map(lambda seed: _junk(Random(seed)))


def valid(kind: type[Resource]) -> st.SearchStrategy[dict[str, Any]]:
    return SEEDS.map(lambda seed: _body(kind, seed))


def spoilt(kind: type[Resource]) -> st.SearchStrategy[dict[str, Any]]:
    return SEEDS.map(lambda seed: spoil(kind, seed))


ANY_PODS = SEEDS.map(_pod)
REPORTS = SEEDS.map(_report)
