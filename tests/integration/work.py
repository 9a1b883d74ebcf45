"""What a dispatcher and a worker do with the jobs that are due, in this process and without a broker in between."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import connections

from inference_portal.jobs.claims import Claim, mark_sent, prefer
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result
from tests.integration import rows
from workers import tasks
from workers.contract import Bundle, BundleResult, Run
from workers.manifest import CONTAINER, EXPLAIN


def work() -> int:
    """Run what is due with the real models, and record what came of it. Returns how many jobs that changed."""
    return sum(record_result(run(claimed)) for claimed in rows.take())


def run(claimed: Claim) -> BundleResult:
    """Run one bundle. Returns its result as it comes out of the worker's message."""
    mark_sent(claimed)
    inputs = dict(Job.objects.filter(id__in=claimed.ids).values_list("id", "input"))
    data = b"".join(bytes(inputs[UUID(item.id)]) for item in claimed.jobs)
    bundle = Bundle(
        id=str(claimed.bundle),
        model=claimed.model,
        version=claimed.version,
        sha256=claimed.sha256,
        columns=len(data) // 4 // claimed.rows,
        jobs=claimed.jobs,
        data=data,
        explain=claimed.lane.pool == EXPLAIN,
        prefer=prefer(claimed) if claimed.lane.pool == CONTAINER else "",
    )
    started = time.time()
    engine, outcomes = tasks.run_bundle(bundle)
    done = Run(
        worker="cpu@host/7",
        host=socket.gethostname(),
        device=engine.device,
        started=started,
        finished=time.time(),
        libraries=engine.libraries,
    )
    return BundleResult.from_message(BundleResult(bundle.id, done, tuple(outcomes)).to_message())


@contextmanager
def at_work() -> Iterator[None]:
    """Have somebody at work in a thread while the block runs. Raises what went wrong there."""
    over = threading.Event()
    errors: list[BaseException] = []

    def go_on() -> None:
        try:
            while not over.wait(0.01):
                work()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)
    assert not thread.is_alive(), "the work hangs"
    if errors:
        raise errors[0]
