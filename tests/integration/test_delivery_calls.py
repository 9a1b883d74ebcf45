"""One call to real receivers that behave badly: bounded in time and in size, pinned, without redirects."""

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from inference_portal.deliveries import calls
from inference_portal.deliveries.calls import EXCERPT_BYTES, call
from inference_portal.deliveries.retry import Answer
from tests.integration.receiver import Receiver, receiving

SECONDS = 1.0


@pytest.fixture(autouse=True)
def _private_receivers(settings: Any) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = ["127.0.0.1/32"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def made(url: str, seconds: float = SECONDS) -> Answer:
    begun = time.monotonic()
    answer = asyncio.run(call(url, {"X-One": "1"}, b"{}", seconds))
    assert time.monotonic() - begun < seconds + 1
    return answer


def raw(answers: Callable[[socket.socket], None]) -> tuple[str, Callable[[], None]]:
    """Run a server that does with one connection after the other whatever is wanted."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=_quietly, args=(answers, connection), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/", listener.close


def _quietly(answers: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with suppress(OSError), connection:
        answers(connection)


def drip(connection: socket.socket, *parts: bytes) -> None:
    for part in parts:
        connection.sendall(part)
    for _ in range(1000):
        time.sleep(0.05)
        connection.sendall(b"a")


BAD: dict[str, Callable[[socket.socket], None]] = {
    "says nothing": lambda connection: time.sleep(30),
    "drips its status": lambda connection: drip(connection),
    "drips its headers": lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\nX-Long: "),
    "drips its body": lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"),
}
BROKEN: dict[str, Callable[[socket.socket], None]] = {
    "closes": lambda connection: None,
    "is no HTTP": lambda connection: connection.sendall(b"220 mail.example ESMTP\r\n" * 20),
    "ends in its headers": lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "ends in its body": lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"),
    "has headers without an end": lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000_000),
}


def test_a_call_says_what_was_answered(receiver: Receiver) -> None:
    receiver.status, receiver.body, receiver.headers = 202, b"thank you\0", {"Retry-After": "7"}
    answer = made(receiver.url)
    assert (answer.status, answer.error, answer.excerpt, answer.retry_after) == (
        202,
        "",
        "thank you\N{REPLACEMENT CHARACTER}",
        7,
    )
    assert 0 < answer.seconds < 1
    (got,) = receiver.calls
    assert got.headers["x-one"] == "1" and got.headers["host"] == receiver.url.split("/")[2]
    assert got.headers["user-agent"].startswith("inference-portal/") and got.body == b"{}"


@pytest.mark.parametrize("how", BAD.values(), ids=BAD.keys())
def test_a_receiver_that_takes_its_time_is_given_so_much_in_all(how: Callable[[socket.socket], None]) -> None:
    url, close = raw(how)
    answer = made(url)
    close()
    assert (answer.status, answer.error) == (None, "no whole answer within 1 s")
    assert answer.is_down


@pytest.mark.parametrize("how", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_a_failure_with_its_reason(how: Callable[[socket.socket], None]) -> None:
    url, close = raw(how)
    answer = made(url)
    close()
    assert answer.status is None and answer.error and len(answer.error) <= 255
    assert answer.is_down


def test_of_ten_gigabytes_a_kilobyte_is_read(receiver: Receiver) -> None:
    sent = []

    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10 * 1024**3))
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)
            sent.append(65536)

    receiver.acts = flood
    answer = made(receiver.url)
    assert (answer.status, len(answer.excerpt)) == (200, EXCERPT_BYTES)
    assert sum(sent) < 20 * 1024**2


def test_a_compressed_bomb_stays_compressed(receiver: Receiver) -> None:
    receiver.status, receiver.headers, receiver.body = 200, {"Content-Encoding": "gzip"}, b"\x1f\x8b" + b"\0" * 5000
    answer = made(receiver.url)
    assert (answer.status, len(answer.excerpt)) == (200, EXCERPT_BYTES)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    with receiving() as other:
        receiver.status, receiver.headers = status, {"Location": other.url}
        answer = made(receiver.url)
        assert (answer.status, answer.is_success) == (status, False)
        assert (len(receiver.calls), other.calls) == (1, [])
    receiver.headers = {"Location": "http://169.254.169.254/latest/meta-data/"}
    assert made(receiver.url).status == status


def test_a_name_is_resolved_once_and_the_checked_address_is_called(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(receiver.url.split(":")[2].split("/")[0])
    asked = []
    answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])

    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        if host != "changes.example":
            return real(host, *rest, **more)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: _numeric(real, resolve, host, rest, more))
    answer = made(f"http://changes.example:{port}/hook")
    assert (answer.status, len(asked)) == (204, 1)
    assert receiver.calls[0].headers["host"] == f"changes.example:{port}"
    # Its next answer is another, which isn't allowed; nothing is sent there.
    refused = made(f"http://changes.example:{port}/hook")
    assert (refused.is_final, refused.error) == (True, "127.0.0.2 isn't a public address")
    assert len(receiver.calls) == 1


def _numeric(real: Any, resolve: Any, host: Any, rest: Any, more: Any) -> Any:
    # The check at the door asks for numbers only.
    return real(host, *rest, **more) if more.get("flags") == socket.AI_NUMERICHOST else resolve(host, *rest, **more)


def test_an_address_that_swallows_everything_leaves_time_for_the_next(
    receiver: Receiver, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    port = int(receiver.url.split(":")[2].split("/")[0])
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        return both if host == "two.example" and not more.get("flags") else real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    # Whoever else wants to connect is answered by nobody once the queue is full.
    with socket.create_server(("127.0.0.2", port), backlog=0), ExitStack() as waiting:
        for _ in range(2):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", port))
        assert made(f"http://two.example:{port}/hook").status == 204


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Thu, 01 Jan 2026 00:00:00 +99999999999999999999", None),
        ("Thu, 01 Jan 2026 00:00:00 +9999", None),
        ("Thu, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("9" * 400, None),
        ("-5", None),
        ("\N{SUPERSCRIPT TWO}", None),
    ],
)
def test_no_retry_after_makes_a_success_a_failure(receiver: Receiver, text: str, seconds: float | None) -> None:
    receiver.headers = {"Retry-After": text}
    answer = made(receiver.url)
    assert (answer.status, answer.retry_after) == (204, seconds)


def test_localhost_and_names_of_private_addresses_are_refused(settings: Any) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    answer = made("http://localhost:9/")
    assert answer.is_final and "isn't a public address" in answer.error
    # A name that no DNS knows: neither called nor taken for the address.
    assert made("http://127.0.0.1.:9/").status is None


def test_a_name_that_nobody_knows_is_tried_again() -> None:
    answer = made("http://receiver.invalid/", seconds=5.0)
    assert (answer.status, answer.is_final) == (None, False)


def test_nobody_listening_is_tried_again() -> None:
    answer = made("http://127.0.0.1:9/")
    assert (answer.status, answer.is_final) == (None, False) and "Connect" in answer.error


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "pair.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key"), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tmp_path / "key")
    seen = []

    def answer_over_tls(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as safe:
            got = b""
            while not got.endswith(b"{}"):
                got += safe.recv(65536)
            seen.append(got)
            safe.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    url, close = raw(answer_over_tls)
    url = url.replace("http:", "https:")
    refused = made(url)
    assert refused.status is None and "CERTIFICATE_VERIFY_FAILED" in refused.error.upper().replace(" ", "_")
    assert seen == [] and not refused.is_final
    trusted = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(calls, "_tls", lambda: trusted)
    assert made(url).status == 200
    # For another name than that of the certificate it isn't.
    monkeypatch.setattr(socket, "getaddrinfo", _always(url, socket.getaddrinfo))
    assert made(url.replace("127.0.0.1", "other.example")).status is None
    close()


def _always(url: str, real: Any) -> Any:
    port = int(url.rsplit(":", 1)[1].strip("/"))
    local = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    return lambda host, *rest, **more: (
        local if host == "other.example" and not more.get("flags") else real(host, *rest, **more)
    )
