"""Is it up, is it well, and what can it do: ping, health and documentation."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from orchestrator_api.dependencies import Given
from orchestrator_api.description import Responses, headers
from orchestrator_api.identity.door import NO_IDENTITY
from orchestrator_api.schemas import Health, Pong

router = APIRouter(tags=["service"])


@router.get("/")
async def ping() -> Pong:
    """Answer."""
    return Pong()


_ANSWERS: Responses = {
    200: {"headers": headers("Warning", always=False)},
    503: {"model": Health, "description": "One of them cannot be reached."},
}


@router.get("/health", responses=_ANSWERS, response_model=Health)
async def health(given: Given) -> JSONResponse:
    """Tell whether Kubernetes and the object store can be reached."""
    if problem := await given.wellness.problem():
        return JSONResponse({"status": "error", "database": problem}, status_code=503)
    # The body is the old system's to the byte, so the warning stands beside it (RFC 7234, 5.5).
    warnings = [*([NO_IDENTITY] if given.door.open else []), *given.warnings]
    told = ", ".join(f'199 orchestrator "{warning}"' for warning in warnings)
    more = {"Warning": told} if told else None
    return JSONResponse({"status": "ok", "database": "ok"}, headers=more)


@router.get("/swagger", include_in_schema=False)
@router.get("/swagger/", include_in_schema=False)
async def documentation(request: Request) -> HTMLResponse:
    """Show the API's documentation, without anything from elsewhere."""
    schema = request.app.openapi()
    rows = "".join(
        f"<tr><td>{method.upper()}</td><td><code>{path}</code></td>"
        f"<td>{operation.get('description', '')}</td></tr>"
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    )
    page = _PAGE.format(title=schema["info"]["title"], rows=rows)
    # Its style stands in the page itself; nothing else is let in.
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c2530; background: #fff; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ text-align: left; padding: .5rem .75rem; border-bottom: 1px solid #d5dbe1; }}
code {{ font-size: .95em; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>The machine-readable description is at
<a href="/api-docs/openapi.json">/api-docs/openapi.json</a>.</p>
<table>
<caption>Routes</caption>
<thead>
<tr><th scope="col">Method</th><th scope="col">Path</th><th scope="col">What it does</th></tr>
</thead>
<tbody>{rows}</tbody>
</table>
</main>
</body>
</html>
"""
