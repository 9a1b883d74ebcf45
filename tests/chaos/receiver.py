"""`python -m tests.chaos.receiver LOG`: a receiver of webhooks that writes down what comes, synced, before it answers.

It shares nothing with the system but HTTP. Each line of the log is an event's id and its body's digest.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.stack import ROOT

_lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log: int

    def do_POST(self) -> None:
        """Answer 204 once it is on disk."""
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            # The caller died in the middle: nothing has come.
            return
        line = f"{self.headers['webhook-id']} {hashlib.sha256(body).hexdigest()}\n".encode()
        with _lock:
            os.write(self.log, line)
            os.fsync(self.log)
        with contextlib.suppress(OSError):
            self.send_response(204)
            self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of callers that were killed."""


@contextlib.contextmanager
def receiving(log: Path) -> Iterator[str]:
    """Run the receiver as a process of its own; yields its address."""
    command = [sys.executable, "-m", "tests.chaos.receiver", str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/hook"
        finally:
            process.kill()


def received(log: Path) -> list[tuple[str, str]]:
    """Return what has come, in its order: id and digest."""
    # Without a line that is just being written.
    whole = log.read_text().rpartition("\n")[0] if log.exists() else ""
    return [(event_id, digest) for event_id, digest in (line.split() for line in whole.splitlines())]


if __name__ == "__main__":
    _Handler.log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    server = _Server(("127.0.0.1", 0), _Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
