"""Writes crds/*.yaml, the chart's CRD templates and api/openapi.yaml from the models and routes.

`generate.py --check` writes nothing and fails when a file differs from what it would write.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from orchestrator_api.app import create_app
from orchestrator_crds import GROUP, KINDS, VERSION, Resource

ROOT = Path(__file__).resolve().parent.parent.parent
DROPPED = frozenset({"title", "examples", "const", "$defs"})
HEADER = "# Generated from crds/orchestrator_crds by hack/gen. Do not edit.\n"
API_HEADER = "# Generated from api/orchestrator_api by hack/gen. Do not edit.\n"
CHART_HEAD = "{{- if .Values.crds.install }}\n"
CHART_TAIL = "{{- end }}\n"
KEEP = """\
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


class Structural(GenerateJsonSchema):
    """JSON schema as the API server wants it: no unions with null, no numeric exclusive bounds."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Return the schema of X for `X | None`: in Kubernetes, absent is the only null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Drop empty defaults, which the server would otherwise write into every object."""
        out = super().default_schema(schema)
        if out.get("default") in (None, "", [], {}):
            out.pop("default", None)
        return out


def structural(node: Any, definitions: dict[str, Any]) -> Any:
    """Return *node* with references inlined and what a structural schema forbids left out."""
    if isinstance(node, list):
        return [structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    node = dict(node)
    reference = node.pop("$ref", None)
    if reference:
        node = definitions[reference.rsplit("/", 1)[-1]] | node
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: structural(child, definitions) for name, child in value.items()}
        elif key == "default":
            out[key] = value
        elif key not in DROPPED and not (key == "additionalProperties" and value is False):
            out[key] = structural(value, definitions)
    if out.get("type") == "integer":
        out.setdefault("format", "int64")
    return out


def schema_of(kind: type[Resource]) -> dict[str, Any]:
    """Return the openAPIV3Schema of *kind*, with its CEL rules and the default of its status."""
    raw = kind.model_json_schema(schema_generator=Structural, by_alias=True)
    definitions = raw.get("$defs", {})
    properties = {
        name: structural(raw["properties"][name], definitions) for name in ("spec", "status")
    }
    spec_rules = getattr(kind.model_fields["spec"].annotation, "spec_rules", ())
    if spec_rules:
        properties["spec"]["x-kubernetes-validations"] = [dict(rule) for rule in spec_rules]
    properties["status"]["default"] = kind.status_default
    schema: dict[str, Any] = {
        "type": "object",
        "description": kind.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": kind.__name__},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": kind.longest_name}},
            },
            **properties,
        },
    }
    if kind.rules:
        schema["x-kubernetes-validations"] = [dict(rule) for rule in kind.rules]
    return schema


def column(column: Any) -> dict[str, Any]:
    """Return one additionalPrinterColumns entry."""
    entry: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return entry | {"priority": 1} if column.wide else entry


def definition(kind: type[Resource]) -> dict[str, Any]:
    """Return the CustomResourceDefinition of *kind*."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema_of(kind)},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column(c) for c in kind.columns],
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.__name__,
                "listKind": f"{kind.__name__}List",
                "plural": kind.plural,
                "singular": kind.__name__.lower(),
                "shortNames": list(kind.short_names),
                "categories": ["orchestrator"],
            },
            "versions": [version],
        },
    }


class Dumper(yaml.SafeDumper):
    """YAML without anchors, which make a CRD unreadable."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every repeated value out."""
        return True


def files() -> dict[Path, str]:
    """Return every generated file: path -> text."""
    out: dict[Path, str] = {}
    for kind in KINDS:
        text = yaml.dump(definition(kind), Dumper=Dumper, sort_keys=False, width=100)
        name = f"{kind.plural}.yaml"
        out[ROOT / "crds" / name] = HEADER + text
        head, metadata, rest = text.partition(f"  name: {kind.plural}.{GROUP}\n")
        labels = '  labels:\n    {{- include "orchestrator.labels" . | nindent 4 }}\n'
        annotated = head + metadata + labels + KEEP + rest
        out[ROOT / "charts/orchestrator/templates/crds" / name] = (
            HEADER + CHART_HEAD + annotated + CHART_TAIL
        )
    described = create_app(None).openapi()
    out[ROOT / "api/openapi.yaml"] = API_HEADER + yaml.dump(
        described, Dumper=Dumper, sort_keys=False, width=100, allow_unicode=True
    )
    return out


def main() -> int:
    """Write the files, or with --check only compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    stale = []
    for path, text in files().items():
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    if check and stale:
        names = ", ".join(str(p.relative_to(ROOT)) for p in stale)
        print(f"Out of date: {names}. Run hack/gen and commit what it writes.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
