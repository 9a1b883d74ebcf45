"""One RabbitMQ account a role: each can do its work, and nothing else. The processes are those of compose.yaml."""

import signal
import time
from collections.abc import Callable, Iterator
from typing import LiteralString
from urllib.parse import urlsplit

import amqp
import httpx
import psycopg
import pytest

from tests import services
from tests.integration.deployment import Deployment, broker_with_accounts
from tests.stack import wait_for
from workers import topology

PROCESSES = (
    "portal",
    "dispatcher",
    "recorder",
    "beat",
    "worker-cpu",
    "worker-cpu-isolated",
    "worker-explain",
    "worker-container",
    "flower",
)
WINE = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Deployment]:
    """Broker, database and setup; no process yet."""
    services.need_rabbitmq()
    folder = tmp_path_factory.mktemp("deployment")
    with (
        services.database(postgres) as database,
        broker_with_accounts(folder) as node,
        Deployment(folder, node, database) as made,
    ):
        done = made.run("setup")
        assert done.returncode == 0, done.stdout + done.stderr
        yield made


@pytest.fixture(scope="module")
def running(deployment: Deployment) -> Deployment:
    """All processes, once every health check passes."""
    deployment.start(*PROCESSES)
    for service in PROCESSES:
        wait_for(
            lambda service=service: deployment.health(service).returncode == 0,  # type: ignore[misc]
            60,
            lambda service=service: f"{service}: {deployment.log_path(service).read_text()}",  # type: ignore[misc]
        )
    return deployment


def connect(deployment: Deployment, account: str) -> amqp.Connection:
    url = urlsplit(deployment.broker_url(account))
    connection = amqp.Connection(
        f"127.0.0.1:{url.port}", userid=url.username, password=url.password, virtual_host=url.path[1:]
    )
    connection.connect()
    return connection


def publish(exchange: str) -> Callable[[amqp.Channel], None]:
    def act(channel: amqp.Channel) -> None:
        channel.confirm_select()
        channel.basic_publish_confirm(amqp.Message("{}"), exchange=exchange, routing_key="cpu.wine")

    return act


def read(queue: str) -> Callable[[amqp.Channel], None]:
    return lambda channel: channel.basic_get(queue)


def eavesdrop(exchange: str) -> Callable[[amqp.Channel], None]:
    def act(channel: amqp.Channel) -> None:
        own = "celeryev.00000000-0000-0000-0000-000000000000"
        channel.queue_declare(own, durable=True, auto_delete=True, arguments={"x-expires": 1000})
        channel.queue_bind(own, exchange, "#")

    return act


ATTEMPTS = {
    ("worker-cpu", "send work"): publish(topology.REQUESTS),
    ("worker-cpu", "send work past the exchange"): publish(""),
    ("worker-cpu", "read results"): read(topology.RECORDER),
    ("worker-cpu", "read another pool's work"): read("inference.gpu"),
    ("worker-cpu", "read dead letters"): read(topology.DEAD),
    ("worker-cpu", "send to beat's tasks"): publish(topology.PORTAL),
    ("worker-cpu", "control other workers"): publish("celery.pidbox"),
    ("worker-cpu", "make a queue"): lambda channel: channel.queue_declare("inference.mine"),
    ("worker-cpu", "delete a queue"): lambda channel: channel.queue_delete("inference.cpu"),
    ("worker-cpu", "read suspects"): read("inference.cpu.isolated"),
    ("worker-cpu-isolated", "read its pool's work"): read("inference.cpu"),
    ("worker-cpu-isolated", "send work"): publish(topology.REQUESTS),
    ("worker-explain", "read another pool's work"): read("inference.cpu"),
    ("worker-container", "read another pool's work"): read("inference.cpu"),
    ("worker-gpu", "read another pool's work"): read("inference.cpu"),
    ("dispatcher", "send results"): publish(topology.RESULTS),
    ("dispatcher", "send to beat's tasks"): publish(topology.PORTAL),
    ("dispatcher", "read work"): read("inference.cpu"),
    ("dispatcher", "read results"): read(topology.RECORDER),
    ("recorder", "send work"): publish(topology.REQUESTS),
    ("recorder", "send results"): publish(topology.RESULTS),
    ("recorder", "read work"): read("inference.cpu"),
    ("recorder", "control workers"): publish("celery.pidbox"),
    ("beat", "send work"): publish(topology.REQUESTS),
    ("courier", "send work"): publish(topology.REQUESTS),
    ("courier", "send work past the exchange"): publish(""),
    ("courier", "read work"): read("inference.cpu"),
    ("beat", "read its own tasks"): read("portal.tasks"),
    ("flower", "send work"): publish(topology.REQUESTS),
    ("flower", "send results"): publish(topology.RESULTS),
    ("flower", "read work"): read("inference.cpu"),
    ("flower", "read results"): read(topology.RECORDER),
    ("flower", "listen to requests"): eavesdrop(topology.REQUESTS),
    ("flower", "listen to results"): eavesdrop(topology.RESULTS),
}


@pytest.mark.parametrize(("account", "attempt"), ATTEMPTS, ids=lambda value: value)
def test_an_account_may_not(deployment: Deployment, account: str, attempt: str) -> None:
    with connect(deployment, account) as connection, pytest.raises(amqp.exceptions.AccessRefused):
        ATTEMPTS[account, attempt](connection.channel())


def test_there_is_no_guest(deployment: Deployment) -> None:
    connection = amqp.Connection(f"127.0.0.1:{deployment.node.port}", userid="guest", password="guest")
    with pytest.raises(amqp.exceptions.AccessRefused):
        connection.connect()


def test_a_job_goes_through_all_accounts(running: Deployment) -> None:
    for command in (["add-team", "lab"], ["add-key", "probe", "--team", "lab"]):
        done = running.run("portal", ["python", "manage.py", "access", *command])
        assert done.returncode == 0, done.stderr
    key = done.stdout.strip()
    answer = httpx.post(
        f"{running.portal_url}/v2/models/wine/infer",
        json={"instances": [WINE]},
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 1


def test_the_dispatcher_records_dead_letters(running: Deployment) -> None:
    with connect(running, "setup") as connection:
        publish(topology.DEAD)(connection.channel())
    # RabbitMQ counts a quorum queue's messages every few seconds only: the row says it.
    count = "SELECT count(*) FROM jobs_parkedmessage"
    wait_for(lambda: _database(running, count) == [(1,)], 30, running.log_path("dispatcher").read_text)


def test_beat_may_send_what_the_recorder_runs(running: Deployment) -> None:
    _database(running, "INSERT INTO django_session VALUES ('over', '', '2020-01-01')")
    code = "from inference_portal.celery import app; app.send_task('portal.clear_sessions')"
    done = running.run("beat", ["python", "-c", code])
    assert done.returncode == 0, done.stderr
    count = "SELECT count(*) FROM django_session"
    wait_for(lambda: _database(running, count) == [(0,)], 30, running.log_path("recorder").read_text)


def test_flower_asks_workers_behind_its_login(running: Deployment) -> None:
    url = f"{running.flower_url}/workers"
    assert httpx.get(url).status_code == 401
    login = tuple((running.secrets / "flower_basic_auth").read_text().split(":"))
    workers = httpx.get(f"{running.flower_url}/workers?json=1&refresh=1", auth=login, timeout=30).text  # type: ignore[arg-type]
    for node in ("cpu@", "isolated-cpu@", "explain@", "recorder@"):
        assert node in workers


def test_a_worker_that_is_gone_is_not_healthy(running: Deployment) -> None:
    assert running.stop("worker-explain") == 0
    # Celery's mailbox stays for ten seconds, and without a reader.
    gone = running.health("worker-explain")
    assert gone.returncode == 1
    assert "explain@" in gone.stdout


def test_a_dispatcher_that_is_gone_is_not_healthy(running: Deployment) -> None:
    status = running.stop("dispatcher")
    try:
        assert "no connection" in running.health("dispatcher").stdout
    finally:
        running.start("dispatcher")
    assert status == 0


def test_a_dispatcher_that_hangs_is_not_healthy(running: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy import healthy

    wait_for(lambda: running.health("dispatcher").returncode == 0, 30, lambda: "")
    for name, value in running.environment("dispatcher").items():
        if name in ("DATABASE_URL_FILE", "PGAPPNAME"):
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(healthy, "SILENCE_SECONDS", 1)
    healthy.database()
    running.freeze("dispatcher", signal.SIGSTOP)
    try:
        time.sleep(1.5)
        with pytest.raises(healthy.Unhealthy, match="dispatcher asked the database . s ago"):
            healthy.database()
    finally:
        running.freeze("dispatcher", signal.SIGCONT)


def test_the_services_role_reads_and_writes_rows_and_changes_no_table(deployment: Deployment) -> None:
    url = (deployment.secrets / "database_url_app").read_text()
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM django_migrations").fetchone() is not None
        for statement in (
            "CREATE TABLE mine (id int)",
            "DROP TABLE jobs_job",
            "ALTER TABLE jobs_job ADD mine int",
            "TRUNCATE jobs_job",
            "CREATE ROLE mine",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_setup_can_be_repeated(deployment: Deployment) -> None:
    done = deployment.run("setup")
    assert done.returncode == 0, done.stdout + done.stderr


def _database(deployment: Deployment, statement: LiteralString) -> list[tuple[int]]:
    with psycopg.connect((deployment.secrets / "database_url_app").read_text()) as connection:
        done = connection.execute(statement)
        return done.fetchall() if done.description else []
