"""A real HTTP receiver of webhooks, in threads of its own, that behaves as a test says."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from inference_portal.deliveries.courier import Courier


@dataclass
class Call:
    """One call as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What came, and what is answered: status, headers and body, or whatever `acts` does with the connection."""

    url: str
    calls: list[Call] = field(default_factory=list)
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    acts: Callable[[BaseHTTPRequestHandler], None] | None = None

    @property
    def ids(self) -> list[str]:
        """The ids of the events that came."""
        return [call.headers["webhook-id"] for call in self.calls]


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Run a receiver on an address of its own."""
    receiver = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) < length:
                # Who sent it died in the middle.
                return
            receiver.calls.append(Call(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            with suppress(OSError):
                if receiver.acts is not None:
                    self.close_connection = True
                    receiver.acts(self)
                    return
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", port), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def courier() -> Iterator[Courier]:
    """A courier in this thread and on its database connection."""
    made = Courier()
    made._thread.start()
    try:
        yield made
    finally:
        made._loop.call_soon_threadsafe(made._loop.stop)
        made._thread.join()
        made._loop.close()


def deliver(seconds: float = 15.0) -> None:
    """Make all calls that are due, and write down what came of them."""
    with courier() as at_work:
        end = time.monotonic() + seconds
        while at_work.step():
            assert time.monotonic() < end, "the calls take too long"
