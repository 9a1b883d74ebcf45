"""The services' database role: rows of every table, and no more (deploy/database_roles.py)."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from axes.models import AccessAttempt
from django.db import connection

from deploy import database_roles

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


@pytest.fixture
def role(postgresql: None, transactional_db: None) -> Iterator[str]:
    """A role as `setup` makes it, on the migrated database."""
    config = connection.settings_dict
    server = f"{config['HOST']}:{config['PORT'] or 5432}/{config['NAME']}"
    owner = config["USER"] + (f":{config['PASSWORD']}" if config["PASSWORD"] else "")
    name = f"inference_app_{uuid4().hex[:12]}"
    yield database_roles.grant(f"postgresql://{owner}@{server}", f"postgresql://{name}:secret@{server}")
    with psycopg.connect(f"postgresql://{owner}@{server}") as admin:
        admin.execute(f'DROP OWNED BY "{name}"')  # type: ignore[arg-type]
        admin.execute(f'DROP ROLE "{name}"')  # type: ignore[arg-type]


def test_it_reads_and_writes_rows_of_every_table_and_changes_none(role: str) -> None:
    tables = connection.introspection.table_names()
    assert AccessAttempt._meta.db_table in tables
    with connection.cursor() as cursor:
        for table in tables:
            for right in RIGHTS:
                cursor.execute("SELECT has_table_privilege(%s, %s, %s)", [role, table, right])
                assert cursor.fetchone() == (True,), f"{right} on {table}"
            cursor.execute("SELECT has_table_privilege(%s, %s, 'TRUNCATE')", [role, table])
            assert cursor.fetchone() == (False,), table
        cursor.execute("SELECT has_schema_privilege(%s, 'public', 'CREATE')", [role])
        assert cursor.fetchone() == (False,)
        cursor.execute("SELECT count(*) FROM pg_tables WHERE tableowner = %s", [role])
        assert cursor.fetchone() == (0,)
        cursor.execute(f'SET ROLE "{role}"')
        try:
            cursor.execute("INSERT INTO accounts_team (name, created_at) VALUES ('of-the-role', now()) RETURNING id")
            assert cursor.fetchone() is not None
        finally:
            cursor.execute("RESET ROLE")
