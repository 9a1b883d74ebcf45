"""What the integration tests share: a real database, also on SQLite, and broker apps on both kinds of broker."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from django.conf import settings
from django.db import connection
from django.test import Client
from pytest_django import DjangoDbBlocker

from inference_portal.accounts.models import Team
from tests import services
from tests.integration import http, rows
from tests.rabbitmq_node import RabbitMQNode
from workers import embedded_broker, topology


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """SQLite as it runs: a file in WAL mode, which threads and processes share. Django's tests use memory otherwise."""
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        settings.DATABASES["default"]["TEST"]["NAME"] = Path(os.environ["RUN_DIR"]) / "integration.sqlite3"


@pytest.fixture(scope="session", autouse=True)
def _wait_hub_lets_go(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The wait hub's thread lives as long as its process and connects again: PostgreSQL drops no database in use."""
    yield
    if connection.vendor == "postgresql":
        name = connection.settings_dict["NAME"]
        with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {connection.ops.quote_name(name)} ALLOW_CONNECTIONS false")
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


@pytest.fixture
def postgresql(request: pytest.FixtureRequest) -> None:
    """Skip what only PostgreSQL can show; the run with TEST_DATABASE=postgresql has it."""
    if not settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
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
