"""Headers of every answer: what jobs wrote, and what users named, is data, wherever it shows up."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A route may set its own; only the page of the documentation has to.
ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    # One caller's answer is no other's, and a poll is never yesterday's.
    (b"cache-control", b"private, no-cache"),
)


class Headers:
    """Adds them to whatever *app* answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                more = [header for header in ALWAYS if header[0] not in present]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, receive, with_headers)
