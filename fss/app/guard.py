"""Who may open the page: requests under the host names that it is served for, and with the token where there is one.

The check of the host name keeps other web pages in the same browser out, which could lead a name of their own to
127.0.0.1 (https://en.wikipedia.org/wiki/DNS_rebinding).
"""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "fss-token"


class Guard:
    """ASGI middleware for HTTP and web sockets (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

    def __init__(self, app: Application, *, hosts: tuple[str, ...] | None, token: str | None) -> None:
        """Protect an application.

        Args:
            app: the application.
            hosts: names under which it may be asked for; None allows all.
            token: what ``?token=`` of the first request has to be, after which a cookie holds it; None asks for none.
        """
        self.app, self.hosts, self.token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self.hosts is not None and _host(headers.get("host", "")) not in self.hosts:
            await _refuse(scope, send, 400, "this host name is not served; open http://127.0.0.1 with the port")
        elif self.token is None or self._same(_cookie(headers.get("cookie", ""))):
            await self.app(scope, receive, send)
        elif scope["type"] == "http" and self._same(_query(scope)):
            await _respond(send, 303, b"", [("location", "/"), ("set-cookie", self._new_cookie())])
        else:
            await _refuse(scope, send, 401, "open the address with ?token=... that fss app printed")

    def _same(self, token: str) -> bool:
        return self.token is not None and secrets.compare_digest(token.encode(), self.token.encode())

    def _new_cookie(self) -> str:
        cookie = SimpleCookie({COOKIE: self.token or ""})
        for name, value in (("path", "/"), ("httponly", "yes"), ("samesite", "Strict")):
            cookie[COOKIE][name] = value
        return cookie[COOKIE].OutputString()


def _query(scope: Scope) -> str:
    """Return the token in the address."""
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


def _host(header: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    name = header[: header.rfind("]") + 1] if header.startswith("[") else header.rpartition(":")[0] or header
    return name.strip("[]").lower()


def _cookie(header: str) -> str:
    morsel = SimpleCookie(header).get(COOKIE)
    return morsel.value if morsel else ""


async def _refuse(scope: Scope, send: Send, status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await _respond(send, status, f"fss app: {reason}\n".encode(), [("content-type", "text/plain; charset=utf-8")])


async def _respond(send: Send, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
