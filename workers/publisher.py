"""Publishing with a broker's word that the message is stored. Used by dispatcher, workers and their heartbeats."""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from celery import Celery

from workers import topology
from workers.config import broker_is_embedded
from workers.settings import SOCKET_TIMEOUT

logger = logging.getLogger(__name__)

# Seconds between the tries of `send_again`.
RETRY_PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0)


class Publisher:
    """One connection for publishing, opened on first use and thrown away after any error.

    py-amqp doesn't match confirms to messages, so a connection that has seen an error can't be trusted again, and only
    one thread publishes at a time. Not to be used before a fork and after it.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._connection: Any = None
        self._producer: Any = None

    def send(
        self,
        task: str,
        message: Mapping[str, Any],
        *,
        exchange: str,
        routing_key: str,
        about: str = "",
        time_limit: float | None = None,
    ) -> None:
        """Publish one Celery message and wait until the broker has confirmed it.

        `about` is what monitoring shows instead of the arguments; after `time_limit` seconds of work the worker's child
        is killed. Raises whatever kombu raises: the message may or may
        not have been stored then, so the caller sends it again and receivers are idempotent.
        """
        with self._lock:
            try:
                self._app.send_task(
                    task,
                    args=[message],
                    exchange=topology.exchange(exchange),
                    routing_key=routing_key,
                    producer=self._open(),
                    retry=False,
                    # A message that no queue takes is an error, not a silent loss.
                    mandatory=True,
                    confirm_timeout=SOCKET_TIMEOUT,
                    argsrepr=about,
                    kwargsrepr="",
                    time_limit=time_limit,
                )
            except BaseException:
                self.close()
                raise

    def send_again(
        self, task: str, message: Mapping[str, Any], *, exchange: str, routing_key: str, about: str = ""
    ) -> None:
        """`send`, again after RETRY_PAUSES: an idle connection may have died unseen, a broker may come back."""
        for pause in RETRY_PAUSES:
            try:
                self.send(task, message, exchange=exchange, routing_key=routing_key, about=about)
                return
            except Exception as error:
                logger.warning("%s was not published, again in %s s: %s", task, pause, error)
                time.sleep(pause)
        self.send(task, message, exchange=exchange, routing_key=routing_key, about=about)

    def close(self) -> None:
        """Drop the connection without ceremony; the next `send` opens a new one."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.collect(socket_timeout=1.0)

    def _open(self) -> Any:
        if self._producer is None:
            # Who publishes decides what a failure means; kombu would try to connect for 20 s first.
            options: dict[str, Any] = {"max_retries": 0}
            if not broker_is_embedded():
                options |= {"read_timeout": SOCKET_TIMEOUT, "write_timeout": SOCKET_TIMEOUT}
            # Nobody would send heartbeats on this connection between two publishes, so it asks for none.
            self._connection = self._app.connection_for_write(
                heartbeat=0, connect_timeout=SOCKET_TIMEOUT, transport_options=options
            )
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
            if broker_is_embedded():
                # A queue that nobody has bound yet would take no message, and there is no `mandatory` here.
                for queue in topology.queues():
                    queue.bind(self._connection.default_channel).declare()
        return self._producer
