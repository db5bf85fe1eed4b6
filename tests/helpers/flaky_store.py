"""An object store with bad days: a proxy before a good one that fails, hangs up or dawdles now and then."""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
_PER_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@contextmanager
def faulty_store(
    server: str, *, errors: float, slow: float = 0.0, delay_s: float = 0.2, seed: int = 0
) -> Iterator[tuple[str, Counter[str]]]:
    """Give the address of the proxy, and count what it does: passed, busy, hung up, slow.

    Args:
        server: the good store, http://host:port.
        errors: share of the requests that fail: half are answered with 503 SlowDown, half with a closed connection.
        slow: share of the others that are answered late.
        delay_s: how late.
        seed: of the draws.
    """
    done: Counter[str] = Counter()
    draws, lock = random.Random(seed), threading.Lock()
    target = urlsplit(server).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            with lock:
                drawn, late = draws.random(), draws.random() < slow
            body = self.body()
            if drawn < errors / 2:
                done["busy"] += 1
                self.answer(503, {"Content-Type": "application/xml"}, b"" if self.command == "HEAD" else BUSY)
            elif drawn < errors:
                done["hung up"] += 1
                self.close_connection = True
            else:
                done["slow" if late else "passed"] += 1
                time.sleep(delay_s * late)
                self.forward(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815

        def body(self) -> bytes:
            """The request's body as it came over the line, its chunks still chunks."""
            if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pieces, size = [], 1
            while size:
                line = self.rfile.readline()
                size = int(line.split(b";")[0], 16)
                pieces += [line, self.rfile.read(size + 2 if size else 0)]
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                pieces.append(line)
            return b"".join([*pieces, b"\r\n"])

        def forward(self, body: bytes) -> None:
            upstream = http.client.HTTPConnection(target, timeout=60)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "expect":
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            found = upstream.getresponse()
            data = found.read()
            headers = {name: value for name, value in found.getheaders() if name.lower() not in _PER_HOP}
            if self.command == "HEAD":
                headers["Content-Length"] = found.getheader("Content-Length") or "0"
            self.answer(found.status, headers, data)
            upstream.close()

        def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}", done
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
