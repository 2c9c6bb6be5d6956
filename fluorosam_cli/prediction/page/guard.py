"""Who may talk to the page: Host, Origin and token of every request, and the headers of every answer."""

import ipaddress
import json
import secrets
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON_MAX_BYTES = 256 * 1024  # of a request that is no image
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def problem(status: int, error: str, hint: str = "") -> Response:
    """What went wrong, as the page and programs read it."""
    return Response(json.dumps({"error": error, "hint": hint}), status, media_type="application/json")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that binds to `host`."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """ASGI middleware that answers 401, 403 or 413 itself and passes on what is in order.

    A Host that is neither an IP address nor one of this machine's names is a foreign name that was made to point here
    (DNS rebinding). A foreign Origin, or a browser's word that another site asks, is a forged request (CSRF). The page
    itself holds nothing private: the token is asked for where images and words are, below /api/.
    """

    def __init__(self, app: ASGIApp, token: str | None = None, names: Iterable[str] = ()) -> None:
        self._app = app
        self._token = token
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
            await (refusal or self._app)(scope, receive, _with_headers(send))

    def _refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return problem(403, f"host {host!r}: not a name of this server", "open the address that fluoro printed")
        if not path.startswith("/api/"):
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if (origin is not None and origin.partition("://")[2] != host) or site not in ("none", "same-origin"):
            return problem(403, "the request comes from another site", "use the page that fluoro serves")
        if self._token is not None and not secrets.compare_digest(
            headers.get("authorization", "").encode(), f"Bearer {self._token}".encode()
        ):
            return problem(401, "the token is missing or wrong", "open the whole address that fluoro printed")
        if method == "POST" and path != "/api/images":
            length = headers.get("content-length", "")
            if not length.isdecimal() or int(length) > JSON_MAX_BYTES:
                return problem(413, "the request is too long, or does not say how long it is", "send fewer prompts")
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sending
