"""What Prometheus reads, made anew from rows at each scrape.

The database is the same for all portal processes, so whichever of them is scraped says the same. What only one process
knows carries its name as a label.
"""

import logging
import os
import platform
import socket
from collections.abc import Iterable, Iterator

from django.db import InterfaceError, OperationalError
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric

from inference_portal import VERSION
from inference_portal.jobs.models import ModelStatistics, ParkedMessage
from inference_portal.jobs.pool import let_go, replace_broken
from inference_portal.jobs.queues import queues
from inference_portal.jobs.relay import places as relays
from inference_portal.jobs.states import OPEN
from inference_portal.jobs.streams import streams
from inference_portal.jobs.waiting import hub

logger = logging.getLogger(__name__)

_MICROSECONDS = 1e-6
_LANE = ("pool", "lane")
_RELEASE = ("model", "version")


class PortalCollector:
    """Reads everything at once; between scrapes it holds no database connection, and no value."""

    def collect(self) -> Iterator[Metric]:
        """Return all families; while the database is away those that need none."""
        try:
            rows = [*_of_lanes(), *_of_models()]
        except (OperationalError, InterfaceError) as error:
            logger.warning("the database is away, metrics are few: %s", error)
            replace_broken()
            rows = []
        finally:
            let_go()
        yield GaugeMetricFamily("inference_database_up", "1 if the database answered this scrape.", bool(rows))
        yield from rows
        yield from _of_this_process()


# An own one: the library's default would add what it knows about this process, as if there were no other.
REGISTRY = CollectorRegistry(support_collectors_without_names=True)
REGISTRY.register(PortalCollector())


def _of_lanes() -> Iterable[Metric]:
    """What waits, what is under way, and who is there to take it."""
    states = GaugeMetricFamily("inference_open_jobs", "Jobs that have not ended.", labels=[*_LANE, "state"])
    waiting = GaugeMetricFamily("inference_waiting_jobs", "Open jobs that no message is under way for.", labels=_LANE)
    messages = GaugeMetricFamily(
        "inference_messages_under_way", "Bundles that the broker or a worker has.", labels=_LANE
    )
    oldest = GaugeMetricFamily(
        "inference_oldest_wait_seconds", "How long the job has waited that has waited longest to start.", labels=_LANE
    )
    consumers = GaugeMetricFamily("inference_consumers", "Processes of live workers.", labels=_LANE)
    dead = GaugeMetricFamily("inference_dead_letters", "Jobs that were given up and wait for a person.", labels=_LANE)
    for queue in queues():
        lane = (queue.lane.pool, queue.name)
        for state in sorted(OPEN):
            states.add_metric([*lane, state], queue.states[state])
        waiting.add_metric(lane, queue.rows)
        messages.add_metric(lane, queue.messages)
        oldest.add_metric(lane, queue.oldest_wait)
        consumers.add_metric(lane, queue.consumers)
        dead.add_metric(lane, queue.dead_letters)
    parked = GaugeMetricFamily(
        "inference_parked_messages",
        "Messages that nobody could read and that wait for a person.",
        ParkedMessage.objects.filter(discarded_at=None).count(),
    )
    return states, waiting, messages, oldest, consumers, dead, parked


def _of_models() -> Iterable[Metric]:
    """The sums that workers' results are counted in."""
    whole = SummaryMetricFamily(
        "inference_job_seconds",
        "Jobs that workers ended, and their time from acceptance to end.",
        labels=[*_RELEASE, "outcome"],
    )
    queued = SummaryMetricFamily(
        "inference_job_queue_seconds", "Jobs that succeeded, and their time from acceptance to start.", labels=_RELEASE
    )
    run = SummaryMetricFamily(
        "inference_job_run_seconds", "Jobs that succeeded, and the time of the runs that they were in.", labels=_RELEASE
    )
    rows = CounterMetricFamily("inference_rows_predicted", "Rows of jobs that succeeded.", labels=_RELEASE)
    calls = CounterMetricFamily("inference_predict_calls", "Bundles in which jobs succeeded.", labels=_RELEASE)
    for sums in ModelStatistics.objects.order_by("model", "version"):
        release = (sums.model, sums.version)
        whole.add_metric([*release, "succeeded"], sums.succeeded, sums.total_us * _MICROSECONDS)
        whole.add_metric([*release, "failed"], sums.failed, sums.failed_us * _MICROSECONDS)
        queued.add_metric(release, sums.succeeded, sums.queue_us * _MICROSECONDS)
        run.add_metric(release, sums.succeeded, sums.run_us * _MICROSECONDS)
        rows.add_metric(release, sums.rows)
        calls.add_metric(release, sums.executions)
    return whole, queued, run, rows, calls


def _of_this_process() -> Iterable[Metric]:
    """The places for requests that wait and for clients that follow jobs; and what the process is."""
    process = f"{socket.gethostname()}/{os.getpid()}"
    places = GaugeMetricFamily("inference_places", "Places of a portal process.", labels=["process", "kind"])
    taken = GaugeMetricFamily("inference_places_taken", "Those of them that are taken.", labels=["process", "kind"])
    for kind, there_are, are_taken in (
        ("waiting_requests", hub.places, hub.taken),
        ("event_streams", streams.places.places, streams.places.taken),
        ("relays", relays.places, relays.taken),
    ):
        places.add_metric([process, kind], there_are)
        taken.add_metric([process, kind], are_taken)
    build = {"version": VERSION, "python": platform.python_version()}
    return places, taken, InfoMetricFamily("inference_build", "The portal's version.", build)
