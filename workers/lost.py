"""When a worker's child dies or hangs, its parent says so at once, with the reason.

Without this the broker would deliver the bundle again, and the next worker could only say that something had happened;
on the embedded broker only the lease would notice. Should the parent die too, that is what happens.
"""

import logging
import socket
import time
from functools import cache
from typing import Any

import psutil
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker import state
from celery.worker.request import Request

from workers import topology
from workers.app import app
from workers.contract import RECORD, Bundle, BundleResult, ErrorCode, Failure, Outcome, Run
from workers.device import resolve
from workers.failpoints import failpoint
from workers.publisher import Publisher

logger = logging.getLogger(__name__)


@cache
def _publisher() -> Publisher:
    """Return the parent's own publisher; a child has inherited none or never uses it."""
    return Publisher(app)


class BundleRequest(Request):
    """A bundle in the hands of the parent process, which never touches XGBoost or CUDA."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Report the jobs of a child that ran into its time limit and is killed."""
        if not soft:
            self._report_timeout(timeout)
        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Report the jobs of a child that died; what raised is none of ours."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, TimeLimitExceeded):
            self._report_timeout(error.args[0])
        elif isinstance(error, (WorkerLostError, SystemExit, KeyboardInterrupt)):
            self._report_death(str(error).partition(" Job:")[0])
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _report_timeout(self, timeout: float) -> None:
        # Celery notices a death some seconds late, perhaps after the time limit.
        if _is_alive(self.worker_pid):
            self._report(Failure(ErrorCode.TIMED_OUT, f"it ran longer than {timeout:g} s and was ended"))
        else:
            self._report_death("its process is gone")

    def _report_death(self, reason: str) -> None:
        self._report(Failure(ErrorCode.WORKER_LOST, f"the worker died while it ran this: {reason}"))

    def _report(self, failure: Failure) -> None:
        """Publish the failure of all jobs and acknowledge; when that fails, Celery gives the message back."""
        if self.acknowledged or self._already_cancelled or self._already_revoked or state.should_terminate:
            return
        try:
            bundle = Bundle.from_message(self.args[0])
            now = time.time()
            run = Run(
                worker=f"{self.hostname}/{self.worker_pid}",
                host=socket.gethostname(),
                device=resolve("auto"),
                started=self.time_start or now,
                finished=now,
            )
            outcomes = tuple(Outcome(job.id, job.attempt, failure=failure) for job in bundle.jobs)
            failpoint("worker.before_report")
            _publisher().send(
                RECORD,
                BundleResult(bundle.id, run, outcomes).to_message(),
                exchange=topology.RESULTS,
                routing_key=f"result.{bundle.model}",
                about=f"{bundle.model}:{bundle.version} {failure.code}",
            )
        except Exception:
            logger.warning("a lost bundle was not reported; it is given back", exc_info=True)
            return
        failpoint("worker.after_report")
        self.acknowledge()


def _is_alive(pid: int | None) -> bool:
    try:
        return bool(psutil.Process(pid or 0).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
