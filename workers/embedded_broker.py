"""kombu's `filesystem://` transport, made safe for many processes that poll quickly.

kombu opens a message file and then fills it, so a fast reader may take a file that is still empty (measured: 3 of 800
lost at a polling interval of 5 ms). Here a message is written beside the queue and renamed into it, and taken out of it
by a rename into a folder on the same file system, which only one reader can win.
"""

import contextlib
import fcntl
import os
import uuid
from pathlib import Path
from queue import Empty
from time import monotonic, time_ns
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps, loads

from workers import topology
from workers.config import run_dir

# Every look wakes the process: five idle ones took a quarter of a core at 5 ms, and it's the first request after a
# while that waits longer now.
POLLING_SECONDS = 0.005
QUIET_POLLING_SECONDS = 0.025
QUIET_SECONDS = 0.25


class Channel(filesystem.Channel):
    """A channel whose puts, gets and bindings are atomic renames, and which has dead letters."""

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        # kombu makes a new table empty and fills it then: of two processes that start together, one loses its binding
        # or reads a table that isn't there yet.
        table = self._exchange_file(exchange)
        with (self.control_folder / "lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            bindings = self.get_table(exchange)
            binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
            if binding not in bindings:
                draft = table.with_suffix(".draft")
                draft.write_text(dumps([binding, *bindings]))
                draft.rename(table)

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:
        folder = Path(self.data_folder_out)
        name = f"{time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        draft = folder / f".{name}"
        draft.write_text(dumps(payload))
        draft.rename(folder / name)

    def _get(self, queue: str) -> Any:
        folder = Path(self.data_folder_in)
        for name in sorted(os.listdir(folder)):
            if name.startswith(".") or name.partition(".")[2] != f"{queue}.msg":
                continue
            taken = Path(self.processed_folder) / name
            try:
                (folder / name).rename(taken)
            except FileNotFoundError:
                continue  # another process took it
            text = taken.read_text()
            taken.unlink()
            return loads(text)
        raise Empty

    def _restore(self, message: Any) -> None:
        # Counted as a quorum queue counts, so that a worker can tell, and no message comes for ever.
        count = int(message.headers.get("x-delivery-count", 0)) + 1
        message.headers["x-delivery-count"] = count
        info = message.delivery_info
        limited = topology.DEAD_LETTERING.intersection(self._lookup(info["exchange"], info["routing_key"]))
        if limited and count > topology.DELIVERY_LIMIT:
            self._bury(message, "delivery_limit")
        else:
            super()._restore(message)

    def basic_reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        """Reject a message; what nobody shall get again goes to the dead letters, as on RabbitMQ."""
        if not requeue:
            self._bury(self.qos.get(delivery_tag), "rejected")
        super().basic_reject(delivery_tag, requeue)

    def _bury(self, message: Any, reason: str) -> None:
        info = message.delivery_info
        for queue in self._lookup(info["exchange"], info["routing_key"]):
            if queue in topology.DEAD_LETTERING:
                message.headers |= {"x-first-death-queue": queue, "x-first-death-reason": reason}
                self._put(topology.DEAD, message.serializable())


class Transport(filesystem.Transport):
    """The transport that `filesystem://` means in this system.

    It works in Celery's event loop. Without one, Celery's children share a pipe and its lock, and a child that is
    killed while it waits there for work takes the lock with it: no other one ever gets any.
    """

    Channel = Channel
    implements = filesystem.Transport.implements.extend(asynchronous=True)
    _timer: Any = None
    # When something was last found.
    _found = 0.0

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Look for messages as often as without a loop, and less often where none have come for a while."""
        if self._timer is None:
            self._timer = loop.call_later(self.polling_interval, self._look, loop)

    def close_connection(self, connection: Any) -> None:
        """Stop looking, and close."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().close_connection(connection)

    def _look(self, loop: Any) -> None:
        try:
            with contextlib.suppress(Empty):
                while True:
                    self.cycle.get(self._deliver)
                    self._found = monotonic()
        finally:
            # None: closed meanwhile.
            if self._timer is not None:
                is_quiet = monotonic() - self._found > QUIET_SECONDS
                pause = QUIET_POLLING_SECONDS if is_quiet else self.polling_interval
                self._timer = loop.call_later(pause, self._look, loop)


def transport_options() -> dict[str, Any]:
    """Create the broker's folders under the run folder and return Celery's `broker_transport_options` for them."""
    folders = {name: run_dir() / "broker" / name for name in ("queue", "taken", "control")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(folders["queue"]),
        "data_folder_out": str(folders["queue"]),
        "processed_folder": str(folders["taken"]),
        "control_folder": folders["control"],
        "polling_interval": POLLING_SECONDS,
    }


def register() -> None:
    """Make `filesystem://` resolve to this transport in this process."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
