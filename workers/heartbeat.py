"""Tells the portal that this worker lives: readiness, capacity and the list of workers are read from it."""

import logging
import socket
import time
from typing import Any

from celery import Celery, bootsteps

from workers import topology, troubles
from workers.config import model_store_dir
from workers.contract import HEARTBEAT, Heartbeat
from workers.device import resolve
from workers.model_store import ModelStore
from workers.publisher import Publisher

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0


def served_pools(app: Celery) -> tuple[str, ...]:
    """Return the lanes that this worker was started with (`-Q inference.cpu`: cpu)."""
    return tuple(
        sorted(q.removeprefix("inference.") for q in app.amqp.queues.consume_from if q.startswith("inference."))
    )


def _device(lanes: tuple[str, ...]) -> str:
    """Return what people see of the worker's device; of a GPU that it has one process, and so one CUDA context."""
    return "cuda, one process" if topology.reads("gpu", lanes) else resolve("auto")


class HeartbeatStep(bootsteps.StartStopStep):
    """A timer in the worker's parent process (which never touches XGBoost or CUDA)."""

    requires = {"celery.worker.consumer.tasks:Tasks"}

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        self._timer: Any = None
        self._publisher = Publisher(consumer.app)
        self._store = ModelStore(model_store_dir())
        troubles.share()
        super().__init__(consumer, **kwargs)

    def start(self, consumer: Any) -> None:
        """Begin to send; the first one at once."""
        self._send(consumer)
        self._timer = consumer.timer.call_repeatedly(INTERVAL_SECONDS, self._send, (consumer,))

    def stop(self, consumer: Any) -> None:
        """End with the consumer, which is also restarted after a lost connection."""
        if self._timer is not None:
            self._timer.cancel()
        self._publisher.close()

    shutdown = stop

    def _send(self, consumer: Any) -> None:
        pools = served_pools(consumer.app)
        snapshot = self._store.snapshot()
        # With explanations, which make no model ready that nobody predicts with.
        loaded = [
            (f"{model}:{version}", release.manifest.pool in pools, troubles.reason(release))
            for model, versions in sorted(snapshot.releases.items())
            for version, release in sorted(versions.items())
            if any(pool in pools for pool in release.manifest.pools)
        ]
        heartbeat = Heartbeat(
            worker=consumer.hostname,
            host=socket.gethostname(),
            pools=pools,
            device=_device(pools),
            processes=int(consumer.pool.num_processes or 1),
            models=tuple(name for name, predicts, trouble in loaded if predicts and trouble is None),
            problems=(
                *(f"{p.path.parent.parent.name}:{p.path.parent.name}: {p.reason}" for p in snapshot.problems),
                *(f"{name}: {trouble}" for name, _, trouble in loaded if trouble is not None),
            ),
            sent=time.time(),
        )
        try:
            self._publisher.send(
                HEARTBEAT,
                heartbeat.to_message(),
                exchange=topology.RESULTS,
                routing_key="heartbeat",
                about=heartbeat.worker,
            )
        except Exception:
            logger.warning("heartbeat not sent, trying again in %s s", INTERVAL_SECONDS, exc_info=True)
