"""What the tests share: services and stacks, started once for the whole run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services
from tests.rabbitmq_node import RabbitMQNode
from tests.stack import Stack, running


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server."""
    with services.postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQNode]:
    """An own RabbitMQ node."""
    with services.rabbitmq_server() as node:
        yield node


@pytest.fixture(scope="session")
def embedded_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The system as `make run` starts it."""
    with running(Stack(tmp_path_factory.mktemp("embedded"))) as stack:
        yield stack


@pytest.fixture(scope="session")
def full_stack(tmp_path_factory: pytest.TempPathFactory, postgres: str, rabbitmq: RabbitMQNode) -> Iterator[Stack]:
    """The system as `make run-stack` starts it."""
    folder = tmp_path_factory.mktemp("full")
    with (
        services.database(postgres) as database,
        services.virtual_host(rabbitmq) as broker,
        running(Stack(folder, database_url=database, broker_url=broker)) as stack,
    ):
        yield stack


@pytest.fixture(params=["embedded", "full"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """Both systems, one after the other."""
    found: Stack = request.getfixturevalue(f"{request.param}_stack")
    return found


@pytest.fixture(scope="session")
def store() -> Path:
    """The models of the repository."""
    return Path(os.environ.get("MODEL_STORE", Path(__file__).parent.parent / "models_store"))
