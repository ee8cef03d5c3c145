"""Bodies of our custom resources, drawn from their schemas: what an API server would let in."""

import re
from typing import Any

from hypothesis import strategies as st

from local.generate import schema_of
from orchestrator_crds import KINDS, Resource

TIMES = st.sampled_from(
    [
        "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-06-30T23:59:60Z",
        "2026-01-01T00:00:00.123456789Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
        "2026-01-01t00:00:00z",
    ]
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "example", "cpu", "1", "memory", "UTC", "Europe/Amsterdam", "../UTC", "0 3 * * *", "* * * * *",
        "@daily", "0 0 31 2 *", "0 0 29 2 *", "0 3 * * 1-5", "0 0 * * 5L", "60 * * * *", "1 2 3", "*",
        "jobs/0123456789abcdef0123456789abcdef/inputs.zip", "nvidia.com/gpu", "True", "ready", "",
    ]
)  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
LARGEST = 2**63 - 1


def _text(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("format") == "date-time":
        return TIMES
    least, most = schema.get("minLength", 0), schema.get("maxLength", 40)
    if "pattern" in schema:
        pattern = re.compile(schema["pattern"].replace("$", r"\Z"))
        drawn = st.from_regex(pattern) | WORDS.filter(lambda word: bool(pattern.search(word)))
    else:
        drawn = WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=min(most, 12))
    return drawn.filter(lambda text: least <= len(text) <= most)


def _list(schema: dict[str, Any]) -> st.SearchStrategy[list[Any]]:
    keys = schema.get("x-kubernetes-list-map-keys")
    unique: Any = None
    if keys:
        unique = lambda item: tuple(item.get(key) for key in keys)  # noqa: E731
    elif schema.get("x-kubernetes-list-type") == "set":
        unique = str
    most = min(schema.get("maxItems", 3), 3)
    inner = of_schema(schema["items"])
    return st.lists(inner, min_size=schema.get("minItems", 0), max_size=most, unique_by=unique)


def _object(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    if "additionalProperties" in schema:
        keys = WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
        least = schema.get("minProperties", 0)
        return st.dictionaries(keys, of_schema(schema["additionalProperties"]), min_size=least, max_size=3)
    required = set(schema.get("required", ()))
    parts = {name: of_schema(inner) for name, inner in schema.get("properties", {}).items()}
    return st.fixed_dictionaries(
        {name: part for name, part in parts.items() if name in required},
        optional={name: part for name, part in parts.items() if name not in required},
    )


def of_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return what a structural schema lets in; collections are short, numbers are of any size."""
    match schema.get("type"):
        case "string":
            return _text(schema)
        case "integer":
            least, most = schema.get("minimum", -LARGEST), schema.get("maximum", LARGEST)
            edges = st.sampled_from([n for n in (least, most, 0, 1) if least <= n <= most])
            return edges | st.integers(least, min(most, least + 100)) | st.integers(least, most)
        case "boolean":
            return st.booleans()
        case "array":
            return _list(schema)
    return _object(schema)


def _body(kind: type[Resource], name: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    properties = schema_of(kind)["properties"]
    metadata = st.builds(
        lambda name: {
            "name": name, "namespace": "jobs", "uid": f"uid-{name}", "resourceVersion": "1",
            "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        name,
    )  # fmt: skip
    return st.fixed_dictionaries(
        {"metadata": metadata, "spec": of_schema(properties["spec"])},
        optional={"status": of_schema(properties["status"])},
    )


NAMES = {"orchestratorservices": "example", "orchestratornodepools": "cpu"}
VALID = {
    kind: _body(kind, st.sampled_from([NAMES.get(kind.plural, "one"), "two"])) for kind in KINDS
}


@st.composite
def spoilt(draw: st.DrawFn, kind: type[Resource]) -> dict[str, Any]:
    """Draw a body of which some part is anything at all, but for its name and version."""
    body = draw(VALID[kind])
    node: Any = body
    key: Any = draw(st.sampled_from(["spec", "status"]))
    while isinstance(node.get(key), dict) and node[key] and draw(st.integers(0, 3)):
        node = node[key]
        key = draw(st.sampled_from(sorted(node)))
    node[key] = draw(JUNK)
    return body
