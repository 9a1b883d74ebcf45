"""The log of effects sees what it must see on both databases, and nothing else, and never fails the write itself."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from tests import services
from tests.chaos import effects
from tests.chaos.evidence import query

JOB = UUID(int=7)
TABLE = "CREATE TABLE jobs_job (id {uuid}, attempt int, state text, result {bytes}, finished_at int)"

Write = Callable[[str], None]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with the columns that matter, one queued job, and the triggers."""
    if request.param == "sqlite":
        path = str(tmp_path / "file")
        write(path)(TABLE.format(uuid="text", bytes="blob"))
        effects.install(path)
        yield path
        return
    with services.database(request.getfixturevalue("postgres")) as url:
        write(url)(TABLE.format(uuid="uuid", bytes="bytea"))
        effects.install(url)
        yield url


def write(database: str) -> Write:
    """Return a function that executes and commits."""

    def execute(sql: str) -> None:
        if database.startswith("postgres"):
            with psycopg.connect(database) as connection:
                connection.execute(sql)  # type: ignore[arg-type]
        else:
            with closing(sqlite3.connect(database)) as connection, connection:
                connection.execute(sql)

    return execute


def insert(database: str, state: str = "queued") -> None:
    write(database)(f"INSERT INTO jobs_job (id, attempt, state) VALUES ('{JOB}', 1, '{state}')")


def logged(database: str) -> list[tuple[str, str]]:
    return query(database, "SELECT old_state, new_state FROM chaos_effect ORDER BY number")


def test_a_job_that_ends_has_one_effect(database: str) -> None:
    insert(database)
    write(database)("UPDATE jobs_job SET state = 'running'")
    assert logged(database) == []
    write(database)("UPDATE jobs_job SET state = 'succeeded', result = 'x', finished_at = 1")
    assert logged(database) == [("running", "succeeded")]
    ((job, written),) = query(database, "SELECT job, written FROM chaos_effect")
    assert UUID(str(job)) == JOB
    assert abs(written - time.time()) < 5


def test_the_same_value_once_more_is_a_second_effect(database: str) -> None:
    insert(database)
    for _ in range(2):
        write(database)("UPDATE jobs_job SET state = 'succeeded', result = 'x'")
    assert logged(database) == [("queued", "succeeded"), ("succeeded", "succeeded")]


def test_a_result_that_is_written_again_is_a_second_effect(database: str) -> None:
    insert(database)
    write(database)("UPDATE jobs_job SET state = 'succeeded', result = 'x'")
    write(database)("UPDATE jobs_job SET result = 'x'")
    assert len(logged(database)) == 2


def test_a_final_job_that_opens_again_is_seen(database: str) -> None:
    insert(database)
    write(database)("UPDATE jobs_job SET state = 'failed'")
    write(database)("UPDATE jobs_job SET state = 'queued'")
    assert logged(database) == [("queued", "failed"), ("failed", "queued")]


def test_a_job_that_is_born_final_is_seen(database: str) -> None:
    insert(database, "succeeded")
    assert logged(database) == [("", "succeeded")]


def test_other_columns_of_a_final_job_are_no_effect(database: str) -> None:
    insert(database)
    write(database)("UPDATE jobs_job SET state = 'succeeded'")
    write(database)("UPDATE jobs_job SET finished_at = 2")
    assert len(logged(database)) == 1


def test_on_postgresql_a_log_that_fails_lets_the_write_pass(postgres: str) -> None:
    with services.database(postgres) as url:
        write(url)(TABLE.format(uuid="uuid", bytes="bytea"))
        effects.install(url)
        insert(url)
        write(url)("DROP TABLE chaos_effect")
        write(url)("UPDATE jobs_job SET state = 'succeeded'")
        assert query(url, "SELECT state FROM jobs_job") == [("succeeded",)]
