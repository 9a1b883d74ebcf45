"""During an upgrade the processes of the last release go on writing to a database that has already been migrated."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.jobs.models import Attempt, Job, Worker
from tests.integration.rows import ONE_ROW, take
from tests.integration.work import work

pytestmark = pytest.mark.django_db
RELEASED = [("accounts", "0001_initial"), ("jobs", "0001_initial")]


@pytest.fixture
def old() -> Any:
    """The tables as the last release knows them."""
    return MigrationLoader(connection).project_state(RELEASED).apps


def insert(table: Any, **values: Any) -> None:
    """Store a row by naming the columns of that release and no others, as its portal does."""
    row, fields = table(**values), table._meta.concrete_fields
    names = ", ".join(field.column for field in fields)
    places = ", ".join(["%s"] * len(fields))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table._meta.db_table} ({names}) VALUES ({places})",
            [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields],
        )


def test_a_job_that_the_old_portal_stores_is_accepted_and_run(team: Team, old: Any) -> None:
    sha256 = "62dfda3a3491784c3f22ee0480056a869ca37d842511158995224c5bee778b30"
    now = timezone.now()
    insert(
        old.get_model("jobs", "Job"),
        id=uuid4(),
        team_id=team.id,
        submitted_by="old",
        model="wine",
        version="1",
        sha256=sha256,
        pool="cpu",
        rows=1,
        input=ONE_ROW,
        reply={"format": "instances", "id": None, "outputs": None},
    )
    job = Job.objects.get()
    assert (job.failures, job.isolated, job.priority, job.keeps_result) == (0, False, 1, True)
    assert (job.ordering_key, job.idempotency_key, job.fingerprint, job.labels, job.host) == ("",) * 5
    assert abs(job.queued_at - now) < timedelta(minutes=1)
    assert work() == 1
    assert take() == []
    job.refresh_from_db()
    assert job.state == "succeeded"


def test_what_the_old_recorder_writes_is_taken(team: Team, old: Any) -> None:
    now = timezone.now()
    insert(
        old.get_model("jobs", "Worker"),
        name="cpu@old",
        host="old",
        pools=["cpu"],
        device="cpu",
        processes=1,
        serves=["wine:1"],
        seen_at=now,
    )
    assert Worker.objects.alive().get().problems == []
    job = Job.objects.create(team=team, model="wine", version="1", pool="cpu", rows=1, input=ONE_ROW)
    old.get_model("jobs", "Attempt").objects.create(
        job_id=job.id, number=1, finished_at=now, code="worker-lost", message="lost"
    )
    assert Attempt.objects.get().host == ""
