"""Calls to a model's container: bounded in time and in size, whatever it does. For workers and the portal.

The whole call has one deadline, also when the container sends a byte now and then; only cancelling gives that, so the
calls run in an event loop on a thread of its own. No redirect is followed, no proxy of the environment is used.
"""

import asyncio
import logging
import os
import ssl
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

# It tells of every call, which the workers' own log does already.
logging.getLogger("httpx").setLevel(logging.WARNING)

# Of one answer: 2 million float32 values in JSON.
MOST_BYTES = 32 * 2**20
# These say that another try may succeed, and that nothing, or perhaps all, was done.
BUSY = frozenset({429, 502, 503, 504})
EXCERPT = 200


class ContainerUnavailable(RuntimeError):
    """The container can't be reached, is busy, or went away before its answer was whole.

    `sent` is false when it can't have seen the request.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class ContainerError(RuntimeError):
    """The container answered, but not what was agreed."""


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    content_type: str
    body: bytes

    @property
    def excerpt(self) -> str:
        """The beginning of the body, for messages."""
        return self.body[: 4 * EXCERPT].decode(errors="replace")[:EXCERPT]


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, connect: float, most: int = MOST_BYTES
) -> Reply:
    """POST once and return the answer, whatever its status. Raises ContainerUnavailable, ContainerError (too large)."""
    return _wait(_call("POST", url, body, headers, seconds, connect, most), seconds)


def is_well(url: str, path: str, headers: Mapping[str, str], *, seconds: float) -> bool:
    """Tell whether the server of `url` answers 2xx under `path`."""
    parts = urlsplit(url)
    address = f"{parts.scheme}://{parts.netloc}{path}"
    try:
        return 200 <= _wait(_call("GET", address, b"", headers, seconds, seconds, MOST_BYTES), seconds).status < 300
    except (ContainerUnavailable, ContainerError):
        return False


async def _call(
    method: str, url: str, body: bytes, headers: Mapping[str, str], seconds: float, connect: float, most: int
) -> Reply:
    # Bytes: what a client sends may hold anything that HTTP does. Compressed answers could unpack to any size.
    sent = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    sent.append((b"Accept-Encoding", b"identity"))
    # One connection a call: a kept one may be closed by the other side just when it is used again.
    limits = httpx.Limits(max_keepalive_connections=0)
    timeout = httpx.Timeout(seconds, connect=min(connect, seconds))
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(verify=_tls(), trust_env=False, limits=limits, timeout=timeout) as client,
            client.stream(method, url, content=body, headers=sent) as response,
        ):
            coding = response.headers.get("Content-Encoding", "identity")
            if coding != "identity":
                raise ContainerError(f"{_place(url)} answered in the coding '{coding[:40]}', which nobody asked for")
            received = bytearray()
            async for part in response.aiter_raw():
                received += part
                if len(received) > most:
                    raise ContainerError(f"{_place(url)} answered more than {most:,} bytes")
            return Reply(response.status_code, response.headers.get("Content-Type", ""), bytes(received))
    except TimeoutError as error:
        raise ContainerUnavailable(f"{_place(url)} gave no whole answer within {seconds:g} s") from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ContainerUnavailable(f"{_place(url)} can't be reached: {error or 'no answer'}", sent=False) from error
    except httpx.TimeoutException as error:
        raise ContainerUnavailable(f"{_place(url)} gave no whole answer within {seconds:g} s") from error
    except httpx.HTTPError as error:
        raise ContainerUnavailable(f"{_place(url)} was cut off: {type(error).__name__}: {error}") from error
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ContainerError(f"{_place(url)} is no address: {error}") from error


def _place(url: str) -> str:
    return urlsplit(url).netloc


@cache
def _tls() -> ssl.SSLContext:
    # 20 ms, so not for each call.
    return httpx.create_ssl_context(trust_env=False)


_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def _loop() -> asyncio.AbstractEventLoop:
    """Return this process's event loop; a fork takes no thread along."""
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="containers", daemon=True).start()
        return loop


def _wait(call: Coroutine[Any, Any, Reply], seconds: float) -> Reply:
    future: Future[Reply] = asyncio.run_coroutine_threadsafe(call, _loop())
    try:
        # The call ends by itself before that; for a loop that hangs.
        return future.result(seconds + 5)
    except TimeoutError as error:
        future.cancel()
        raise ContainerUnavailable(f"no answer within {seconds:g} s") from error
