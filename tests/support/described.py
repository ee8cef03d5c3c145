"""Whether an answer is one that the API's description tells of: its status, headers and body."""

import json
import re
from functools import cache
from typing import Any

import httpx2
from jsonschema import Draft202012Validator

from orchestrator_api.app import create_app

# Not in the description, but served; and what may come of any path that there is not.
HIDDEN = ("/swagger", "/swagger/", "/api-docs/openapi.json")
ANYWHERE = {404, 405}
# Told of nowhere: it is always a mistake of ours.
MISTAKE = 500


@cache
def description() -> dict[str, Any]:
    return create_app(None).openapi()


def undescribed(answer: httpx2.Response) -> list[str]:
    """Return what is not as described in an answer whose body was read."""
    verb, path = answer.request.method.lower(), answer.request.url.path
    if path in HIDDEN or answer.status_code == MISTAKE:
        return []
    found = [verbs for template, verbs in description()["paths"].items() if _fits(template, path)]
    if not found or verb not in found[0]:
        return [] if answer.status_code in ANYWHERE else [f"{verb} {path}: {answer.status_code}"]
    told = found[0][verb]["responses"].get(str(answer.status_code))
    if told is None:
        return [f"{verb} {path}: {answer.status_code} is not described"]
    problems = [
        f"{verb} {path}: {answer.status_code} without {name}"
        for name, header in told.get("headers", {}).items()
        if header.get("required") and name not in answer.headers
    ]
    if verb == "head":
        return problems
    kind = answer.headers.get("content-type", "").split(";")[0]
    media = told.get("content", {}).get(kind)
    if media is None:
        return [*problems, f"{verb} {path}: {answer.status_code} as {kind!r} is not described"]
    if kind.endswith("json"):
        schema = {**media["schema"], "components": description()["components"]}
        body = json.loads(answer.content)
        problems += [str(error) for error in Draft202012Validator(schema).iter_errors(body)]
    return problems


def _fits(template: str, path: str) -> bool:
    return bool(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path))
