"""The courier: claims due deliveries, makes their calls side by side, writes down what came of them.

The rows are all it knows. What it has in hand when it dies is brought back by its lease, and sent again with the same
id; any number of couriers may run.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from inference_portal.deliveries import outcomes
from inference_portal.deliveries.calls import call
from inference_portal.deliveries.claims import bring_back, claim, forget, give_up_old
from inference_portal.deliveries.letters import letter
from inference_portal.deliveries.models import Delivery
from inference_portal.deliveries.retry import Answer
from inference_portal.deliveries.sinks import sending
from inference_portal.jobs import changes
from workers.failpoints import failpoint

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
# While calls are under way: how soon what is new is seen.
BUSY_SECONDS = 0.05
SWEEP_SECONDS = 5.0
PAUSE_SECONDS = 1.0
# Threads that ask the DNS, for each call that may be under way: who asks a server that says nothing is held far longer
# than its call lasts, and the usual handful of threads would soon all be.
RESOLVERS_PER_CALL = 4


class Courier:
    """One process's worth of deliveries; the calls run on an event loop of their own, the database is this thread's."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(RESOLVERS_PER_CALL * settings.COURIER_CALLS, "resolver"))
        self._thread = threading.Thread(target=self._loop.run_forever, name="calls", daemon=True)
        self._under_way: dict[Future[Answer], Delivery] = {}
        self._swept = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; what is under way then ends first. Survives a database that is away."""
        self._thread.start()
        source = changes.listen(changes.DELIVER)
        while not stop.is_set():
            done = False
            with _survived():
                if not self.step():
                    source.wait(IDLE_SECONDS)
                done = True
            if not done:
                stop.wait(PAUSE_SECONDS)
        source.close()
        with _survived():
            wait(self._under_way, settings.WEBHOOK_TIMEOUT_SECONDS)
            self._write_down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def step(self) -> bool:
        """Begin what is due, write down what has come back. False: there was nothing to do."""
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            for chore in (bring_back, give_up_old, forget):
                chore()
            self._swept = time.monotonic()
        taken = claim(settings.COURIER_CALLS - len(self._under_way))
        for delivery in taken:
            # One that can't be sent comes back when its lease is over; the others go.
            with _survived():
                self._begin(delivery)
        if not self._under_way:
            return bool(taken)
        wait(self._under_way, BUSY_SECONDS, FIRST_COMPLETED)
        self._write_down()
        return True

    def _begin(self, delivery: Delivery) -> None:
        if not _is_wanted(delivery):
            outcomes.disabled(delivery)
            return
        answer = _answer(delivery, settings.WEBHOOK_TIMEOUT_SECONDS)
        failpoint("courier.before_call")
        self._under_way[asyncio.run_coroutine_threadsafe(answer, self._loop)] = delivery

    def _write_down(self) -> None:
        for future in [each for each in self._under_way if each.done()]:
            failpoint("courier.after_call")
            try:
                outcomes.record(self._under_way[future], future.result())
            except (OperationalError, InterfaceError):
                # Kept while the database is away, and written down once it is back.
                raise
            except Exception:
                logger.exception("delivery %s can't be written down, it is sent again", self._under_way[future].id)
            del self._under_way[future]


def _is_wanted(delivery: Delivery) -> bool:
    """Tell whether the endpoint, if there is one, is still there, turned on, and where the delivery goes."""
    endpoint = delivery.endpoint
    if endpoint is None:
        return not delivery.destination.startswith("endpoint:")
    return endpoint.url == delivery.url and (endpoint.enabled or delivery.event_id.startswith("test-"))


def _answer(delivery: Delivery, seconds: float) -> Coroutine[None, None, Answer]:
    """Read all that is to be sent, and return what will send it."""
    if delivery.sink is not None:
        return sending.send(sending.parcel(delivery), seconds)
    sent = letter(delivery)
    return call(sent.url, sent.headers, sent.body, seconds)


@contextmanager
def _survived() -> Iterator[None]:
    """Log what goes wrong inside, and go on."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        logger.warning("the database is away, trying again: %s", error)
        connection.close()
    except Exception:
        logger.exception("delivering was interrupted, trying again")
