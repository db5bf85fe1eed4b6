"""Who may open the page of `fss app`."""

import asyncio
from typing import Any

import pytest

from fss.app.guard import LOOPBACK, Guard


def answer(guard: dict[str, Any], *, kind: str = "http", query: str = "", **headers: str) -> tuple[Any, dict[str, str]]:
    """Return the status of a request, or "passed", and the headers of the response."""
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        sent.append({"status": "passed"})

    async def send(message: Any) -> None:
        sent.append(message)

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "headers": encoded, "query_string": query.encode()}
    asyncio.run(Guard(application, **guard)(scope, None, send))  # type: ignore[arg-type]
    first = sent[0]
    return first.get("status", first.get("code")), {k.decode(): v.decode() for k, v in first.get("headers", [])}


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:80", "LOCALHOST:1"])
def test_this_machine_may_ask_without_a_token(host: str) -> None:
    guard = {"hosts": LOOPBACK, "token": None}
    assert answer(guard, host=host)[0] == answer(guard, kind="websocket", host=host)[0] == "passed"


@pytest.mark.parametrize("host", ["evil.example:8080", "", "127.0.0.1.evil.example"])
def test_other_names_of_this_machine_are_refused(host: str) -> None:
    guard = {"hosts": LOOPBACK, "token": None}
    assert answer(guard, host=host)[0] == 400
    assert answer(guard, kind="websocket", host=host)[0] == 1008


def test_a_token_opens_the_page_once_and_its_cookie_afterwards() -> None:
    guard = {"hosts": None, "token": "secret word"}
    for kind, refused in (("http", 401), ("websocket", 1008)):
        for cookie in ("", "fss-token=other", "x=1"):
            assert answer(guard, kind=kind, query="token=wrong", host="a", cookie=cookie)[0] == refused
    status, headers = answer(guard, query="token=secret+word", host="a")
    assert status == 303 and headers["location"] == "/"
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=Strict" in headers["set-cookie"]
    cookie = headers["set-cookie"].partition(";")[0]
    assert answer(guard, host="a", cookie=cookie)[0] == answer(guard, kind="websocket", cookie=cookie)[0] == "passed"
