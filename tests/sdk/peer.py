"""A small HTTP server that does what a test planned, mishaps included, and remembers what it saw."""

import json
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


Answer = Callable[["Handler", Seen], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.peer.connections.append(self.connection)  # type: ignore[attr-defined]

    def answer(self) -> None:
        peer: Peer = self.server.peer  # type: ignore[attr-defined]
        url = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        seen = Seen(
            self.command,
            url.path,
            {name: values[-1] for name, values in parse_qs(url.query).items()},
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(raw) if raw else None,
        )
        peer.seen.append(seen)
        act = peer.planned.popleft() if peer.planned else reply(599, {"error": "not planned"})
        act(self, seen)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def break_off(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, *_: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a reader may leave early
            super().handle_error(*_)


class Peer:
    """Use it with `with`; `plan` one answer for each request to come."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.planned: deque[Answer] = deque()
        self.connections: list[socket.socket] = []
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.peer = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def plan(self, *answers: Answer) -> None:
        self.planned.extend(answers)

    def __enter__(self) -> "Peer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        for (
            connection
        ) in self.connections:  # a client that a failed test left open must not hold us
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()


def reply(status: int = 200, body: Any = None, **headers: str) -> Answer:
    """An ordinary answer; a header `Retry-After` is written `Retry_After`."""

    def act(handler: Handler, _: Seen) -> None:
        raw = (
            b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.head(status, {"Content-Length": str(len(raw)), **named})
        handler.wfile.write(raw)

    return act


def hang_up(handler: Handler, _: Seen) -> None:
    """No answer at all."""
    handler.break_off()


def frame(seq: int, **fields: Any) -> bytes:
    """An event on the wire."""
    return f"id: {seq}\ndata: {json.dumps({'seq': seq, **fields})}\n\n".encode()


def stream(
    events: Iterable[dict[str, Any]], *, cut: int | None = None, replay: bool = False
) -> Answer:
    """The events behind the reader's Last-Event-ID, each with a `seq`.

    `cut` breaks the connection off after so many bytes; `replay` ignores Last-Event-ID.
    """

    def act(handler: Handler, seen: Seen) -> None:
        after = 0 if replay else int(seen.headers.get("last-event-id", 0))
        wire = b": heartbeat\n\n" + b"".join(frame(**e) for e in events if e["seq"] > after)
        handler.head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        sent = wire if cut is None else wire[:cut]
        for start in range(0, len(sent), 37):
            piece = sent[start : start + 37]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if cut is None:
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.break_off()

    return act
