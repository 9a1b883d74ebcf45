"""One HTTP call to a receiver: pinned to a checked address, no redirects, bounded in time and in what is read."""

import asyncio
import ssl
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import httpcore

from inference_portal import VERSION
from inference_portal.deliveries.addresses import Forbidden, check_addresses, check_url
from inference_portal.deliveries.retry import Answer, read_retry_after

# So much of an answer is read; the connection is closed then, whatever else would come.
EXCERPT_BYTES = 1024
# Of a host's addresses so many are tried.
_TRIED = 3


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that were checked, and to no other; to any where the operator has chosen the host."""

    def __init__(self, *, is_trusted: bool) -> None:
        self._is_trusted = is_trusted
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check everything, connect. Raises Forbidden, OSError, httpcore's errors."""
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=1)
        resolved = [str(each[4][0]) for each in found]
        addresses = resolved if self._is_trusted else check_addresses(resolved)
        addresses = addresses[:_TRIED]
        # One that swallows everything leaves time for the next.
        share = None if timeout is None else timeout / len(addresses)
        error: Exception | None = None
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error or httpcore.ConnectError("no address")

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._inner.sleep(seconds)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def call(url: str, headers: dict[str, str], body: bytes, seconds: float, *, is_trusted: bool = False) -> Answer:
    """POST, and return what came of it within so many seconds in all, from the DNS to the last byte. Never raises.

    An address that is trusted is an operator's own; any other one is checked.
    """
    begun = time.monotonic()
    try:
        if not is_trusted:
            check_url(url)
        async with asyncio.timeout(seconds):
            status, retry_after, excerpt = await _post(url, headers, body, seconds, is_trusted)
    except Forbidden as error:
        return Answer(error=str(error)[:255], seconds=time.monotonic() - begun, is_final=True)
    except TimeoutError:
        return Answer(error=f"no whole answer within {seconds:g} s", seconds=time.monotonic() - begun)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Answer(error=text.encode("ascii", "replace").decode()[:255], seconds=time.monotonic() - begun)
    return Answer(
        status=status,
        error="" if 200 <= status < 300 else f"the receiver answered {status}",
        seconds=time.monotonic() - begun,
        excerpt=excerpt.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}"),
        retry_after=retry_after,
    )


async def _post(
    url: str, headers: dict[str, str], body: bytes, seconds: float, is_trusted: bool
) -> tuple[int, float | None, bytes]:
    sent = {**headers, "User-Agent": f"inference-portal/{VERSION}", "Accept": "*/*", "Connection": "close"}
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
    # A pool for each call: nothing is kept open, and so nothing is used again that was checked for another call.
    async with (
        httpcore.AsyncConnectionPool(ssl_context=_tls(), network_backend=PinnedBackend(is_trusted=is_trusted)) as pool,
        pool.stream("POST", url, headers=list(sent.items()), content=body, extensions={"timeout": timeouts}) as answer,
    ):
        excerpt = b""
        async for part in answer.aiter_stream():
            excerpt += part
            if len(excerpt) >= EXCERPT_BYTES:
                break
        asked = {name.lower(): value for name, value in answer.headers}.get(b"retry-after", b"").decode("latin-1")
        after = read_retry_after(asked, datetime.now(UTC)) if asked else None
        return answer.status, after, excerpt[:EXCERPT_BYTES]
