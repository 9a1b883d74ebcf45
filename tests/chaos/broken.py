"""Ways to break the broker or the database under a system that works: one table."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.proxy import Proxy
from tests.chaos.servers import Servers, fill

HANG_SECONDS = 25.0
DELAY_SECONDS = 0.3


class Effect(StrEnum):
    """What must be seen while a fault lasts, or it hit nothing."""

    STALLS = "nothing submitted ends"
    REFUSES = "nothing submitted is accepted"
    DISTURBS = "something submitted isn't accepted"
    SLOWS = "nothing is as quick as the delay"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break a server: a context in which it is broken, from its beginning on."""

    broken: Callable[[Servers], contextlib.AbstractContextManager[None]]
    # The end of the context, such as a server's start, comes on top.
    seconds: float
    effect: Effect
    # Whether the database is hit, so that submissions may be refused.
    may_refuse: bool = False
    # So long after the context began the effect must be there.
    grace: float = 1.0


@contextlib.contextmanager
def memory_alarm(servers: Servers) -> Iterator[None]:
    """The broker believes that its memory is full: from the first publisher on that it blocks."""
    servers.node.ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        while "blocked" not in servers.node.ctl("list_connections", "state"):
            time.sleep(0.2)
        yield
    finally:
        servers.node.ctl("set_vm_memory_high_watermark", "0.4")


@contextlib.contextmanager
def full_broker_disk(servers: Servers) -> Iterator[None]:
    """No byte is left on the broker's disk; should it have given up, it is started again."""
    with fill(servers.broker_disk):
        yield
    if not servers.node.virtual_machines():
        servers.node.start()


@contextlib.contextmanager
def full_database_disk(servers: Servers) -> Iterator[None]:
    """No byte is left on the database's disk; should it have ended in a PANIC, it is started again."""
    with fill(servers.database_disk):
        yield
    if not servers.postgres.is_running:
        servers.postgres.start()


@contextlib.contextmanager
def frozen_broker(servers: Servers) -> Iterator[None]:
    """The broker gets no processor time; its connections stay open."""
    with servers.node.frozen():
        yield


@contextlib.contextmanager
def stopped_broker(servers: Servers) -> Iterator[None]:
    """The broker is stopped in good order, and started again."""
    servers.node.stop()
    yield
    servers.node.start()


@contextlib.contextmanager
def killed_broker(servers: Servers) -> Iterator[None]:
    """The broker is killed, and started again."""
    servers.node.kill9()
    yield
    servers.node.start()


@contextlib.contextmanager
def stopped_database(servers: Servers) -> Iterator[None]:
    """The database is stopped in good order, and started again."""
    servers.postgres.stop()
    yield
    servers.postgres.start()


@contextlib.contextmanager
def killed_database(servers: Servers) -> Iterator[None]:
    """Every process of the database is killed, and it is started again."""
    servers.postgres.kill9()
    yield
    servers.postgres.start()


@contextlib.contextmanager
def restarted_database(servers: Servers) -> Iterator[None]:
    """The database is stopped without a word to anybody, and started again at once."""
    servers.postgres.stop(immediate=True)
    servers.postgres.start()
    yield


def _network(
    choose: Callable[[Servers], Proxy], spoil: Callable[[Proxy], None]
) -> Callable[[Servers], contextlib.AbstractContextManager[None]]:
    """Return the fault that spoils the network to one server."""

    @contextlib.contextmanager
    def spoiled(servers: Servers) -> Iterator[None]:
        spoil(choose(servers))
        try:
            yield
        finally:
            choose(servers).forward()

    return spoiled


def _to_broker(servers: Servers) -> Proxy:
    return servers.broker_proxy


def _to_database(servers: Servers) -> Proxy:
    return servers.database_proxy


def _delay(proxy: Proxy) -> None:
    proxy.delay(DELAY_SECONDS)


FAULTS: dict[str, Fault] = {
    "broker: memory alarm": Fault(memory_alarm, 20.0, Effect.STALLS, grace=2.0),
    # It looks at its disk every ten seconds, and more often where little is left.
    "broker: full disk": Fault(full_broker_disk, 30.0, Effect.STALLS, grace=15.0),
    "broker: kill -9": Fault(killed_broker, 3.0, Effect.STALLS),
    "broker: stop": Fault(stopped_broker, 20.0, Effect.STALLS),
    "broker: frozen": Fault(frozen_broker, 20.0, Effect.STALLS),
    "broker: network hangs": Fault(_network(_to_broker, Proxy.hang), HANG_SECONDS, Effect.STALLS),
    "broker: network resets": Fault(_network(_to_broker, Proxy.reset), 10.0, Effect.STALLS),
    "broker: network delays": Fault(_network(_to_broker, _delay), 15.0, Effect.SLOWS),
    "database: full disk": Fault(full_database_disk, 20.0, Effect.DISTURBS, may_refuse=True),
    "database: kill -9": Fault(killed_database, 0.0, Effect.DISTURBS, may_refuse=True),
    "database: restart": Fault(restarted_database, 0.0, Effect.DISTURBS, may_refuse=True),
    "database: stop": Fault(stopped_database, 15.0, Effect.REFUSES, may_refuse=True),
    "database: network hangs": Fault(_network(_to_database, Proxy.hang), HANG_SECONDS, Effect.REFUSES, may_refuse=True),
    "database: network resets": Fault(_network(_to_database, Proxy.reset), 10.0, Effect.REFUSES, may_refuse=True),
    "database: network delays": Fault(_network(_to_database, _delay), 15.0, Effect.SLOWS, may_refuse=True),
}
