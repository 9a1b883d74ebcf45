"""The example pre-processor on the full stack: raw messages become jobs, each once, and what can't is kept aside."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid5

import httpx
from kombu import Connection, Exchange, Queue

from examples.preprocessor import NAMESPACE
from tests.stack import ROOT, Stack, wait_for

NAME = "subscriber.tested"
RAW = {
    "customer": "c-17",
    "plan": "Basic",
    "payment": "CARD",
    "months": 11,
    "fee_cents": 1401,
    "calls": ["may", "june"],
}


class Gate:
    """Stands before the portal: says 503 first, then hands requests on; `kills` is called before the next answer."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.url = stack, ""
        self.refusals, self.seen = 2, 0
        self.kills: Any = None

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.seen += 1
        if self.refusals:
            self.refusals -= 1
            handler.send_response(503)
            handler.send_header("Retry-After", "1")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        headers = {name: handler.headers[name] for name in ("Authorization", "Content-Type")}
        told = httpx.put(self.stack.url + handler.path, content=body, headers=headers, timeout=60)
        if self.kills is not None:
            self.kills()
            return
        handler.send_response(told.status_code)
        handler.send_header("Content-Length", str(len(told.content)))
        handler.end_headers()
        handler.wfile.write(told.content)


@contextmanager
def gate(stack: Stack) -> Iterator[Gate]:
    made = Gate(stack)

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            with suppress(OSError):
                made.answer(self)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def preprocessor(at: Gate, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    named = {"BROKER_URL": at.stack.environment["BROKER_URL"], "PORTAL_URL": at.url}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / "preprocessor.py"), NAME],
            env=os.environ | named | {"PORTAL_API_KEY": at.stack.api_key},
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def waiting(connection: Connection, queue: str = NAME) -> tuple[int, int]:
    """Return how many messages wait there, and how many read it; none of either where there is no such queue."""
    try:
        with connection.channel() as channel:
            found = channel.queue_declare(queue, passive=True)
    except connection.channel_errors:
        return 0, 0
    return found.message_count, found.consumer_count


def test_each_raw_message_becomes_one_job_or_a_dead_letter_that_says_why(full_stack: Stack, tmp_path: Path) -> None:
    log = tmp_path / "log"
    job_id = uuid5(NAMESPACE, "raw-1")
    path = f"/api/jobs/{job_id}/"
    with gate(full_stack) as at, Connection(full_stack.environment["BROKER_URL"]) as connection:
        producer = connection.Producer()

        def publish(body: Any, message_id: str | None) -> None:
            producer.publish(body, exchange=Exchange(NAME, type="fanout", no_declare=True), message_id=message_id)

        with preprocessor(at, log) as first:
            wait_for(lambda: waiting(connection)[1] == 1, 60, log.read_text)
            at.kills = first.kill
            publish(RAW, "raw-1")
            first.wait(60)
        # It had waited as it was told, and died when the portal had the job and it didn't know.
        assert (at.refusals, at.seen) == (0, 3), log.read_text()
        accepted = full_stack.client.get(path).json()
        at.kills = None
        with preprocessor(at, log):
            publish(RAW, "raw-1")
            publish({**RAW, "plan": "gold"}, "raw-2")
            publish(b"\xff", None)
            wait_for(lambda: waiting(connection, f"{NAME}.dead")[0] == 2, 60, log.read_text)
        assert at.seen == 6, log.read_text()
        assert log.read_text().count(f"{job_id} submitted") == 2
        dead = Queue(f"{NAME}.dead").bind(connection.default_channel)
        reasons = {}
        while (message := dead.get(no_ack=True, accept=None)) is not None:
            reasons[message.properties.get("message_id")] = message.headers["reason"]
        assert "422" in reasons["raw-2"] and "column 'plan'" in reasons["raw-2"]
        assert "can't be read" in reasons[None]
        wait_for(lambda: waiting(connection) == (0, 0), 30, log.read_text)
    # The same job all the time, and none for the others.
    assert full_stack.client.get(path).json()["accepted_at"] == accepted["accepted_at"]
    jobs = full_stack.client.get("/api/jobs/", params={"label": "customer c-17"}).json()["results"]
    assert [job["id"] for job in jobs] == [str(job_id)]
    result = full_stack.client.get(f"{path}result/", params={"wait": 30})
    assert result.status_code == 200 and json.loads(result.content)["predictions"], result.text
