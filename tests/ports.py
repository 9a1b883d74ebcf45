"""TCP ports for servers of tests."""

import contextlib
import random
import socket

# The system gives connections their own ports from 32,768 on. A server that is stopped and started again would find its
# port taken by one of them.
FIRST, LAST = 20_000, 32_000
# Not the module's own: tests seed it.
_random = random.SystemRandom()


def free_port() -> int:
    """Return a TCP port that nobody listens on and no connection is given."""
    while True:
        port = _random.randint(FIRST, LAST)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def free_ports(count: int) -> list[int]:
    """Return so many different ones."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)
