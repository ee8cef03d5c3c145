"""What the API server makes of a merge patch."""

from typing import Any


def merged(target: Any, patch: Any) -> Any:
    """Return *target* after a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merged(out.get(key), value)
    return out
