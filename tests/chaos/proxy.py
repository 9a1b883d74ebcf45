"""A TCP proxy between the system and a server, which turns a network bad and good again while connections live."""

import asyncio
import contextlib
import socket
import struct
import threading
from types import TracebackType

CHUNK_BYTES = 65_536


class Proxy:
    """Forwards connections from `port` to another port of this machine; a context manager."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._delay = 0.0
        self._refuses = False
        self._serving: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        # Set: bytes may flow.
        self._flows = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{target}", daemon=True)

    def forward(self) -> None:
        """Pass everything on at once; what a hang held back flows again."""
        self._set()

    def delay(self, seconds: float) -> None:
        """Pass everything on, this much later in each direction."""
        self._set(delay=seconds)

    def hang(self) -> None:
        """Read and write nothing, as a cable that was pulled: connections stay open, new ones get no answer."""
        self._set(hangs=True)

    def reset(self) -> None:
        """Break every connection with RST, and every new one too."""
        self._set(refuses=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self.forward()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._listener.close()

    def _set(self, *, delay: float = 0.0, hangs: bool = False, refuses: bool = False) -> None:
        async def switch() -> None:
            self._delay, self._refuses = delay, refuses
            if hangs:
                self._flows.clear()
            else:
                self._flows.set()
            if refuses and self._serving:
                for task in self._serving:
                    task.cancel()
                await asyncio.wait(self._serving)

        asyncio.run_coroutine_threadsafe(switch(), self._loop).result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        accepting = self._loop.create_task(self._accept())
        self._loop.run_forever()
        accepting.cancel()
        self._loop.run_until_complete(asyncio.wait([accepting, *self._serving]))
        self._loop.close()

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            client.setblocking(False)
            if self._refuses:
                _break(client)
                continue
            task = self._loop.create_task(self._serve(client))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, client: socket.socket) -> None:
        server = socket.socket()
        server.setblocking(False)
        try:
            await self._flows.wait()
            await self._loop.sock_connect(server, ("127.0.0.1", self._target))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(client, server))
                both.create_task(self._pump(server, client))
        except* (OSError, asyncio.CancelledError):
            # One side is gone without a word: the other side learns it the same way.
            _break(client)
            _break(server)
        finally:
            client.close()
            server.close()

    async def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        data = b"?"
        while data:
            await self._flows.wait()
            data = await self._loop.sock_recv(source, CHUNK_BYTES)
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._flows.wait()
            if data:
                await self._loop.sock_sendall(sink, data)
        # The source has said all that it has to say; the other direction may go on.
        sink.shutdown(socket.SHUT_WR)


def _break(end: socket.socket) -> None:
    """Close with RST instead of FIN."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
