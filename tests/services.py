"""PostgreSQL and RabbitMQ for the tests: those that run already, else own ones from the machine's programs.

Run as root on Debian without them, they are installed. Where none of that works, the tests that need them are skipped
with a loud reason, or fail when CI is set.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests import migrated
from tests.postgres_server import PostgresServer, answers, postgres_programs
from tests.rabbitmq_node import RabbitMQNode, rabbitmq_is_installed

LOCAL_POSTGRES = "postgres://postgres@127.0.0.1:5432"


def missing(what: str) -> None:
    """Fail under CI, skip elsewhere, and say what to do."""
    packages = "postgresql rabbitmq-server chromium"
    message = f"{what} is missing: start it, or install it (Debian: apt-get install {packages})"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Yield the address of a PostgreSQL server on which databases may be created, without a database name."""
    if answers(LOCAL_POSTGRES):
        yield LOCAL_POSTGRES
        return
    need_postgres()
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        # The server's own user must be able to enter it.
        Path(folder).chmod(0o711)
        with PostgresServer(Path(folder)) as server:
            yield server.url


@contextlib.contextmanager
def rabbitmq_server() -> Iterator[RabbitMQNode]:
    """Yield an own RabbitMQ node: tests make and remove virtual hosts, and must not meet anybody's messages."""
    need_rabbitmq()
    with tempfile.TemporaryDirectory(prefix="rabbitmq-") as folder, RabbitMQNode(Path(folder)) as node:
        yield node


def need_postgres() -> None:
    """Make sure that PostgreSQL's programs are here, or fail or skip."""
    if postgres_programs() is None and not _install("postgresql"):
        missing("PostgreSQL")


def need_rabbitmq() -> None:
    """Make sure that RabbitMQ's program is here, or fail or skip."""
    if not rabbitmq_is_installed() and not _install("rabbitmq-server"):
        missing("RabbitMQ")


def browser() -> str:
    """Return the path of a Chromium, or fail or skip."""
    name = os.environ.get("BROWSER_PATH", "chromium")
    path = shutil.which(name) or (shutil.which(name) if _install("chromium") else None)
    if path is None:
        missing("Chromium")
    assert path is not None
    return path


@contextlib.contextmanager
def database(server: str) -> Iterator[str]:
    """Yield the address of a new, empty database; it is dropped afterwards."""
    name = f"inference_test_{uuid4().hex[:12]}"
    with psycopg.connect(_dsn(server), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield f"{server}/{name}"
    finally:
        with psycopg.connect(_dsn(server), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextlib.contextmanager
def migrated_database(server: str) -> Iterator[str]:
    """Yield the address of a new database with all tables in it; it is dropped afterwards."""
    with database(server) as url:
        _make_tables(url)
        yield url


def make_database(server: str, name: str) -> None:
    """Make a database with all tables in it."""
    with psycopg.connect(_dsn(server), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    _make_tables(f"{server}/{name}")


def _make_tables(url: str) -> None:
    """Make all tables in an empty database. The first call of a run migrates it, the others repeat what came of it."""
    if _tables:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_tables[0])
        return
    migrated.migrate(DATABASE_URL=url, DJANGO_SECRET_KEY="only-for-this-test-run-" + "x" * 40)
    programs = postgres_programs()
    if programs is not None:
        command = [str(programs / "pg_dump"), "--inserts", "--no-owner", url]
        done = subprocess.run(command, capture_output=True, check=True)
        # Lines with a backslash are for psql.
        _tables.append(b"\n".join(line for line in done.stdout.splitlines() if not line.startswith(b"\\")))


_tables: list[bytes] = []


@contextlib.contextmanager
def virtual_host(node: RabbitMQNode) -> Iterator[str]:
    """Yield the address of a new, empty virtual host; it is deleted afterwards."""
    name = f"test-{uuid4().hex[:12]}"
    all_of_it = ", ".join(['<<".*">>'] * 3)
    node.evaluate(
        f'ok = rabbit_vhost:add(<<"{name}">>, <<"tests">>),'
        f'ok = rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, {all_of_it}, <<"tests">>).'
    )
    try:
        yield node.url("guest", "guest", name)
    finally:
        node.evaluate(f'rabbit_vhost:delete(<<"{name}">>, <<"tests">>).')


def _dsn(server: str) -> str:
    return f"{server}/postgres".replace("postgres://", "postgresql://", 1)


def _install(package: str) -> bool:
    """Install a Debian package if that is possible here. Installing starts no service: the tests start their own."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    # `make test` has two runs at once, and either may be the one that misses something.
    with Path("/tmp/inference-tests-install.lock").open("w") as lock:  # noqa: S108
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _install_alone(package)


def _install_alone(package: str) -> bool:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    policy = Path("/usr/sbin/policy-rc.d")
    own_policy = not policy.exists()
    if own_policy:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        print(f"installing {package} …", flush=True)
        for action in (["update"], ["-y", "--no-install-recommends", "install", package]):
            if subprocess.run(["apt-get", "-q", *action], env=environment, check=False, capture_output=True).returncode:
                return False
    finally:
        if own_policy:
            policy.unlink()
    return True
