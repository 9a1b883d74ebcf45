"""What the integration tests share: a real database, also on SQLite, and broker apps on both kinds of broker."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.conf import settings as django_settings
from django.core.management.commands import flush
from django.db import connection
from django.test import Client
from pytest_django import DjangoDbBlocker
from whitenoise.middleware import WhiteNoiseMiddleware

from inference_portal.accounts.models import Team
from inference_portal.catalog import traffic
from inference_portal.jobs import changes
from tests import services
from tests.integration import http, rows
from tests.rabbitmq_node import RabbitMQNode
from workers import embedded_broker, topology


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """SQLite as it runs: a file in WAL mode, which threads and processes share. Django's tests use memory otherwise."""
    if django_settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        django_settings.DATABASES["default"]["TEST"]["NAME"] = Path(os.environ["RUN_DIR"]) / "integration.sqlite3"


@pytest.fixture(scope="session", autouse=True)
def _wait_hub_lets_go(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The wait hub's thread lives as long as its process: PostgreSQL drops no database in use."""
    yield
    if connection.vendor == "postgresql":
        # It would connect again, to a database that is gone.
        pytest.MonkeyPatch().setattr(changes.PostgresChanges, "wait", lambda *_: threading.Event().wait())
        with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
            name = connection.settings_dict["NAME"]
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


@pytest.fixture(autouse=True)
def _quick_hashes(settings: Any) -> None:
    """The usual hash of a password takes a core for some tenths of a second."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session", autouse=True)
def _quick_flush(django_db_setup: None) -> Iterator[None]:
    """How the tables are emptied after a test that commits.

    Django truncates, for which PostgreSQL makes every file anew, and lets all apps write down their models and
    permissions again; these rows just stay.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "sql_flush", _emptying)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *_: None)
        yield


def _emptying(_style: Any, on: Any, **_options: Any) -> list[str]:
    tables = set(on.introspection.django_table_names(only_existing=True, include_views=False))
    deletes = [f'DELETE FROM "{table}"' for table in sorted(tables - {"django_content_type", "auth_permission"})]
    if on.vendor == "postgresql":
        # Without a look into other tables for each row; of these nothing is left anyway.
        return ["SET LOCAL session_replication_role = replica", *deletes]
    return deletes


@pytest.fixture(scope="session", autouse=True)
def _static_files_are_found_once() -> Iterator[None]:
    """Every client of a test has a middleware of its own, which looks for all static files when it is made."""
    find, found = WhiteNoiseMiddleware.add_files_from_finders, dict[str, Any]()

    def find_once(middleware: WhiteNoiseMiddleware) -> None:
        if not found:
            find(middleware)
            found.update(middleware.files)
        middleware.files.update(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", find_once)
        yield


@pytest.fixture(autouse=True)
def _traffic_of_this_test() -> None:
    """What another test has released is gone with its rows."""
    traffic.forget()


@pytest.fixture
def postgresql(request: pytest.FixtureRequest) -> None:
    """Skip what only PostgreSQL can show; the run with TEST_DATABASE=postgresql has it."""
    if not django_settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
        pytest.skip("about PostgreSQL: TEST_DATABASE=postgresql")


@pytest.fixture
def team(db: None) -> Team:
    """The team that owns the test's jobs."""
    return rows.make_team()


@pytest.fixture
def embedded_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app on the embedded broker, in a folder of its own."""
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("BROKER_URL", raising=False)
    # kombu remembers for the whole process what it has bound in another test's folder.
    embedded_broker.Transport.global_state.clear()
    return rows.make_app()


@pytest.fixture
def rabbitmq_app(rabbitmq: RabbitMQNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """An app on RabbitMQ with all queues declared, in a virtual host of its own."""
    with services.virtual_host(rabbitmq) as url:
        monkeypatch.setenv("BROKER_URL", url)
        app = rows.make_app()
        topology.declare(app)
        yield app


@pytest.fixture(params=["embedded", "rabbitmq"])
def broker_app(request: pytest.FixtureRequest) -> Celery:
    """Both brokers, one after the other."""
    app: Celery = request.getfixturevalue(f"{request.param}_app")
    return app


@pytest.fixture
def submitter(team: Team) -> Client:
    """A client that may submit for the team."""
    return http.client(team)
