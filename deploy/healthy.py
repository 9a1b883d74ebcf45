"""Health checks of the containers: exit 0 if the process beside us does its work, else 1 and a line that says why.

    python deploy/healthy.py http <url>       the portal and Flower: the page answers
    python deploy/healthy.py mailbox <node>   a Celery worker: the broker still hears the node's consumer
    python deploy/healthy.py database         dispatcher and beat: their loop has asked the database lately

These import no Django and no Celery, so that a check every 30 seconds costs next to nothing; and they need no right
that the process itself doesn't have (`celery inspect ping` would: a worker that may ping others may also stop them).
"""

import os
import socket
import sys
import urllib.request
from collections.abc import Callable

from workers.config import secret

TIMEOUT_SECONDS = 5
# The dispatcher asks several times a second, beat every five seconds; a publish may take 30 s before it is given up.
SILENCE_SECONDS = 60


class Unhealthy(Exception):
    """The process doesn't do its work; the text says what was seen."""


def http(url: str) -> None:
    """Check that `url` answers 200. Raises OSError."""
    urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS).close()


def mailbox(node: str, host: str = "") -> None:
    """Check that the Celery node `<node>@<host>` consumes its mailbox. Raises Unhealthy, OSError or an AMQP error.

    RabbitMQ takes a consumer away whose process stops answering AMQP heartbeats, so this ends for a hanging one too.
    """
    from kombu import Connection

    queue = f"{node}@{host or socket.gethostname()}.celery.pidbox"
    with Connection(secret("BROKER_URL"), connect_timeout=TIMEOUT_SECONDS) as connection:
        consumers = connection.default_channel.queue_declare(queue, passive=True).consumer_count
    if not consumers:
        raise Unhealthy(f"nobody reads {queue}")


def database() -> None:
    """Check that the process called PGAPPNAME here asked the database lately. Raises Unhealthy or psycopg.Error."""
    import psycopg

    name = os.environ["PGAPPNAME"]
    query = """
        SELECT extract(epoch FROM now() - max(greatest(query_start, state_change)))
        FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = %s
        AND client_addr IS NOT DISTINCT FROM inet_client_addr()
    """
    with psycopg.connect(
        secret("DATABASE_URL"), application_name=f"{name} health", connect_timeout=TIMEOUT_SECONDS
    ) as connection:
        row = connection.execute(query, [name]).fetchone()
    if row is None or row[0] is None:
        raise Unhealthy(f"{name} has no connection to the database")
    if row[0] > SILENCE_SECONDS:
        raise Unhealthy(f"{name} asked the database {row[0]:.0f} s ago")


CHECKS: dict[str, Callable[..., None]] = {"http": http, "mailbox": mailbox, "database": database}


def main(kind: str, *arguments: str) -> int:
    """Run one check; return the exit status."""
    try:
        CHECKS[kind](*arguments)
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
