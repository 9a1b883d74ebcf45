"""Two of the faults, shortened, on a full stack of their own; and a fault that does lose something is noticed."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import services
from tests.chaos import deliveries
from tests.chaos.broken import FAULTS, Effect, Fault, memory_alarm
from tests.chaos.servers import Servers
from tests.chaos.trial import Ground, ground


@pytest.fixture(scope="module")
def hit() -> Iterator[Ground]:
    """A running system on servers that can be broken."""
    services.need_postgres()
    services.need_rabbitmq()
    # Not pytest's own folder: PostgreSQL's user could not enter it.
    with (
        tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder,
        ground(Path(folder), **deliveries.VARIABLES) as found,
    ):
        yield found


def test_a_memory_alarm_of_the_broker_refuses_nothing_and_loses_nothing(hit: Ground) -> None:
    outcome = hit.trial("memory alarm", Fault(memory_alarm, 5.0, Effect.STALLS, grace=2.0), quiet=1.0)
    assert not outcome.violations, f"{outcome.violations}\n{hit.stack.logs()}"
    assert outcome.accepted > 20


def test_connections_to_the_database_that_break_lose_nothing(hit: Ground) -> None:
    fault = FAULTS["database: network resets"]
    short = Fault(fault.broken, 3.0, fault.effect, may_refuse=True)
    outcome = hit.trial("database: network resets", short, quiet=1.0)
    assert not outcome.violations, f"{outcome.violations}\n{hit.stack.logs()}"
    assert outcome.accepted > 5


def test_a_lost_job_and_a_fault_that_hits_nothing_are_both_told(hit: Ground) -> None:
    """The last of the trials: the loss stays."""

    @contextlib.contextmanager
    def loses_a_job(servers: Servers) -> Iterator[None]:
        yield
        with psycopg.connect(servers.direct_database_url, autocommit=True) as connection:
            oldest = "SELECT id FROM jobs_job WHERE state = 'succeeded' ORDER BY accepted_at LIMIT 1"
            connection.execute(f"DELETE FROM jobs_job WHERE id = ({oldest})")

    outcome = hit.trial("loses a job", Fault(loses_a_job, 2.0, Effect.STALLS, grace=0.0), quiet=0.5)
    kinds = {line.partition(":")[0] for line in outcome.violations}
    assert kinds == {"lost", "no effect"}, outcome.violations


def test_kills_of_courier_and_recorder_lose_no_event_and_give_each_one_id(hit: Ground, tmp_path: Path) -> None:
    report = deliveries.killed_run(
        hit.stack,
        hit.servers.direct_database_url,
        tmp_path / "received",
        seed=10,
        deliveries=200,
        kills=6,
        tell=lambda text: None,
    )
    print(report.text())
    assert report.violations == []
    assert set(report.kills) == set(deliveries.VICTIMS)
