"""The servers under a system: own ones, behind proxies, and if wanted on small disks, so that faults can hit them."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.chaos.proxy import Proxy
from tests.postgres_server import PostgresServer
from tests.rabbitmq_node import RabbitMQNode

DATABASE = "inference"
DISK_SIZE = "400m"
FILLER = "filler"


class Servers:
    """One system's PostgreSQL and RabbitMQ; a context manager.

    The system is to use `database_url` and `broker_url`, which lead through the proxies; who looks on from outside uses
    `direct_database_url`. With `disks` the data of each lies on a file system of its own (that takes root).
    """

    def __init__(self, folder: Path, *, disks: bool = False) -> None:
        self.database_disk = folder / "postgres" / "data"
        self.broker_disk = folder / "rabbitmq" / "data"
        # With a small disk a small log, so that its files are made anew often: a full one is felt soon.
        small = {"max_wal_size": "48MB", "min_wal_size": "32MB"} if disks else {}
        self.postgres = PostgresServer(folder / "postgres", settings=small)
        self.node = RabbitMQNode(folder / "rabbitmq")
        self.database_proxy = Proxy(self.postgres.port)
        self.broker_proxy = Proxy(self.node.port)
        self._disks = [self.database_disk, self.broker_disk] if disks else []
        self._open = contextlib.ExitStack()

    @property
    def database_url(self) -> str:
        """The database, through its proxy."""
        return f"postgres://postgres@127.0.0.1:{self.database_proxy.port}/{DATABASE}"

    @property
    def direct_database_url(self) -> str:
        """The database, whatever the proxy does."""
        return f"{self.postgres.url}/{DATABASE}"

    @property
    def broker_url(self) -> str:
        """The broker, through its proxy."""
        return f"amqp://guest:guest@127.0.0.1:{self.broker_proxy.port}//"

    def __enter__(self) -> "Servers":
        with contextlib.ExitStack() as opened:
            for disk in self._disks:
                opened.enter_context(tmpfs(disk, DISK_SIZE))
            for server in (self.postgres, self.node, self.database_proxy, self.broker_proxy):
                opened.enter_context(server)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


@contextlib.contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system in memory of this size (`200m`) on the folder; it and what it holds are gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        # Lazily: a process that was killed may hold a file for another moment.
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def fill(folder: Path) -> Iterator[None]:
    """Leave no byte free on the folder's file system, until the end."""
    filler = folder / FILLER
    try:
        with filler.open("wb", buffering=0) as stream:
            for size in (1 << 20, 1 << 12, 1):
                while _takes(stream.fileno(), size):
                    pass
        yield
    finally:
        filler.unlink(missing_ok=True)


def _takes(file: int, size: int) -> bool:
    """Write so many bytes; False when the file system is full."""
    try:
        os.write(file, b"\0" * size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    return True
