"""A container that misbehaves as a test wants it, and remembers what it was asked: a real HTTP server on a thread."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


# Answers one request: writes to the connection whatever it likes.
Behaviour = Callable[["Handler", Asked], None]


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the behaviour that is next."""

    server: "_Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(self.path, dict(self.headers), body)
        container = self.server.container
        with container.lock:
            container.asked.append(asked)
            container.at_once += 1
            container.most_at_once = max(container.most_at_once, container.at_once)
            behave = container.behaviours.pop(0) if len(container.behaviours) > 1 else container.behaviours[0]
        try:
            with suppress(OSError):
                behave(self, asked)
        finally:
            with container.lock:
                container.at_once -= 1

    def do_GET(self) -> None:
        self.server.container.health_asked += 1
        self.answer(200 if self.server.container.well else 503, b"")

    def answer(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@dataclass
class Container:
    """The server's address, what it was asked, and how it behaves next; the last behaviour stays."""

    url: str = ""
    behaviours: list[Behaviour] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    well: bool = True
    health_asked: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def behave(self, *behaviours: Behaviour) -> None:
        with self.lock:
            self.behaviours = list(behaviours)


class _Server(ThreadingHTTPServer):
    container: Container
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def container_server(*behaviours: Behaviour, port: int = 0) -> Iterator[Container]:
    """Run one on a port of its own."""
    server = _Server(("127.0.0.1", port), Handler)
    server.container = container = Container(f"http://127.0.0.1:{server.server_port}/infer", list(behaviours))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield container
    finally:
        container.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def answering(data: Any, status: int = 200, content_type: str = "application/json", **headers: str) -> Behaviour:
    """Answer the same to all: JSON, or bytes as they are."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return lambda handler, asked: handler.answer(status, body, content_type, **headers)


def two_labels(handler: Handler, asked: Asked) -> None:
    """Answer V2 as a model with the labels no and yes would: the probability is a tenth of the first column."""
    (first, *_) = asked.json["inputs"]
    values = [value / 10 for value in first["data"]]
    rows = [len(values)]
    outputs = [
        {"name": "probability", "datatype": "FP32", "shape": rows, "data": values},
        {"name": "label", "datatype": "BYTES", "shape": rows, "data": ["yes" if v >= 0.5 else "no" for v in values]},
    ]
    handler.answer(200, json.dumps({"model_name": "m", "outputs": outputs}).encode())


def hanging(handler: Handler, asked: Asked) -> None:
    """Say nothing until the test is over."""
    handler.server.container.closing.wait(60)


def dripping(handler: Handler, asked: Asked) -> None:
    """Send a byte of the headers now and then."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not handler.server.container.closing.wait(0.1):
        handler.wfile.write(b"x")
        handler.wfile.flush()


def dying(handler: Handler, asked: Asked) -> None:
    """Go away in the middle of the answer."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Type: application/json\r\n\r\n{"outputs"')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def endless(handler: Handler, asked: Asked) -> None:
    """Answer without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while not handler.server.container.closing.is_set():
        handler.wfile.write(b" " * 2**20)
