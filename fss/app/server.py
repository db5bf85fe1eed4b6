"""Serve the page until it is interrupted."""

import asyncio
import logging
import secrets
import signal
import socket
from urllib.parse import quote

import uvicorn.server
from fastapi import HTTPException, Response
from nicegui import Client, app, ui

from fss.app import editor, gallery, panel
from fss.app.guard import LOOPBACK, Guard
from fss.app.page import Page
from fss.app.workspace import Workspace

_SIDES = (gallery.SIDE, editor.SIDE, panel.SIDE)
_DAY = "private, max-age=86400"
_RECONNECT_S = 30.0
"""Seconds in which a tab may come back, from a busy machine or a bad network, before its page is built again."""

_END_S = 3
"""Seconds that the end of the server waits for open requests: one of a tab without a web socket lasts half a minute."""


def check_port(host: str, port: int) -> None:
    """Check that the page can listen.

    Raises:
        ValueError: the port is in use, or the host is not one of this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ValueError(f"cannot listen on {host}, port {port} ({error.strerror}); give another --port") from error


async def show(workspace: Workspace, client: Client, run: str) -> None:
    """Build the page of a browser's tab; nothing for a program that only fetches it, which never connects.

    Args:
        workspace: photographs, model and collection.
        client: the tab.
        run: id of the running page.
    """
    await client.connected()
    if client.tab_id is None:
        return
    page = Page(workspace, client.tab_id, run)
    client.on_delete(page.panel.stop)
    await page.start()


def serve(workspace: Workspace, *, host: str, port: int, token: str | None) -> None:
    """Serve the page.

    Args:
        workspace: photographs, model and collection.
        host: address to listen on.
        port: port to listen on.
        token: what the first request has to bring; None: whoever reaches the port may open the page.
    """
    run = secrets.token_hex(4)
    hosts = LOOPBACK if host in LOOPBACK else None
    app.add_middleware(Guard, hosts=hosts, token=token)

    @app.get("/photographs/{served}/{position}/{side}")
    def photograph(served: str, position: int, side: int) -> Response:
        if served != run or side not in _SIDES or not 0 <= position < len(workspace.photographs):
            raise HTTPException(404)
        try:
            data = workspace.photographs.jpeg(position, side)
        except ValueError as error:
            raise HTTPException(404, str(error)) from error
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": _DAY})

    async def root() -> None:
        await show(workspace, ui.context.client, run)

    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/{f'?token={quote(token)}' if token else ''}"
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # uvicorn ends in order at Ctrl-C and SIGTERM alone
        uvicorn.server.HANDLED_SIGNALS = (*uvicorn.server.HANDLED_SIGNALS, signal.SIGHUP)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    app.on_shutdown(workspace.end)
    app.on_startup(lambda: print(f"open {address}   (Ctrl-C ends the page)", flush=True))
    ui.run(
        root,
        host=host,
        port=port,
        title="fss app",
        reload=False,
        show=False,
        show_welcome_message=False,
        reconnect_timeout=_RECONNECT_S,
        timeout_graceful_shutdown=_END_S,
    )


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a record of the server is more than that open requests were cancelled at the end."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError) and "graceful shutdown exceeded" not in str(record.msg)
