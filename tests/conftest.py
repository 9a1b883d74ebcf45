"""What the tests share: services and stacks, started once for the whole run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services
from tests.ports import free_port
from tests.rabbitmq_node import RabbitMQNode
from tests.stack import Stack, running

# Receivers of webhooks on this machine may be called.
RECEIVERS = {"WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}


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
    with running(Stack(tmp_path_factory.mktemp("embedded"), first=True, **RECEIVERS)) as stack:
        yield stack


@pytest.fixture(scope="session")
def full_stack(tmp_path_factory: pytest.TempPathFactory, postgres: str, rabbitmq: RabbitMQNode) -> Iterator[Stack]:
    """The system as `make run-stack` starts it."""
    folder = tmp_path_factory.mktemp("full")
    with (
        services.database(postgres) as database,
        services.virtual_host(rabbitmq) as broker,
        running(
            Stack(folder, database_url=database, broker_url=broker, **RECEIVERS, **sink_variables(folder))
        ) as stack,
    ):
        yield stack


def sink_variables(folder: Path) -> dict[str, str]:
    """A sink of each kind, for the test that looks into them: it starts the servers at these ports."""
    results = folder / "results"
    results.mkdir(parents=True)
    path = folder / "sinks.yaml"
    path.write_text(
        f"shelf: {{type: folder, root: {results}, format: csv}}\n"
        "lake: {type: s3, bucket: results, format: parquet}\n"
        "line: {type: amqp, queue: subscriber.sink}\n"
        f"desk: {{type: webhook, url: 'http://127.0.0.1:{free_port()}/hook', key_variable: DESK_KEY}}\n"
    )
    return {
        "SINKS_FILE": str(path),
        "DESK_KEY": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=",
        "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "S3_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
    }


@pytest.fixture(params=["embedded", "full"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """Both systems, one after the other."""
    found: Stack = request.getfixturevalue(f"{request.param}_stack")
    return found


@pytest.fixture(scope="session")
def store() -> Path:
    """The models of the repository."""
    return Path(os.environ.get("MODEL_STORE", Path(__file__).parent.parent / "models_store"))
