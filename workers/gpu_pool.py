"""What a worker of the pool `gpu` needs before it starts: a GPU, and one process for it."""

import logging
import os
import sys
from typing import Any

from celery.signals import worker_init

from workers import topology
from workers.device import gpu_names
from workers.heartbeat import served_pools

logger = logging.getLogger(__name__)


@worker_init.connect
def prepare(sender: Any, **kwargs: Any) -> None:
    """End the worker if there is no GPU: its jobs wait in the queue for one that has one. Else give it one process.

    Every process would have a CUDA context of its own, some hundred MB on the card, and they would take turns there.
    """
    if not topology.reads("gpu", served_pools(sender.app)):
        return
    if not gpu_names():
        # Logging isn't set up yet.
        print(
            "This worker reads the pool gpu, and this machine has no GPU that the NVIDIA driver reports (nvidia-smi). "
            "It doesn't start; jobs of the pool wait for a worker that has one.",
            file=sys.stderr,
        )
        raise SystemExit(os.EX_UNAVAILABLE)
    if sender.concurrency != 1:
        print(f"One process instead of {sender.concurrency}: a GPU has one CUDA context.", file=sys.stderr)
        sender.concurrency = 1
