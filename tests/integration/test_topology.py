"""What RabbitMQ itself says about our queues and those who read them, and what it does with a message held too long."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from celery import Celery

from tests.integration import rows
from tests.integration.celery_process import PATIENCE_SECONDS, Reports, worker
from tests.integration.test_lost import bundle, codes, job, send, served
from tests.rabbitmq_node import RabbitMQNode
from tests.stack import wait_for
from workers import topology
from workers.contract import Bundle, ErrorCode


def told(node: RabbitMQNode, app: Celery, *command: str) -> list[list[str]]:
    """What `rabbitmqctl` prints about the app's virtual host, as rows of columns."""
    vhost = unquote(urlsplit(app.conf.broker_url).path.removeprefix("/"))
    printed = node.ctl(command[0], "-p", vhost, "--no-table-headers", *command[1:])
    return [line.split("\t") for line in printed.splitlines()]


def test_every_queue_is_a_quorum_queue_that_loses_no_dead_letter(rabbitmq: RabbitMQNode, rabbitmq_app: Celery) -> None:
    said_of = told(rabbitmq, rabbitmq_app, "list_queues", "name", "type", "arguments")
    found = {name: (kind, said) for name, kind, said in said_of}
    assert {spec.name for spec in topology.TABLE} <= set(found)
    assert {kind for kind, _ in found.values()} <= {"quorum", "rabbit_quorum_queue"}
    for name in topology.DEAD_LETTERING:
        _, said = found[name]
        for argument, value in {
            "x-dead-letter-exchange": f'"{topology.DEAD}"',
            "x-dead-letter-strategy": '"at-least-once"',
            "x-overflow": '"reject-publish"',
            "x-delivery-limit": str(topology.DELIVERY_LIMIT),
        }.items():
            assert f'{{"{argument}",{value}}}' in said.replace(" ", ""), said


def test_a_worker_has_one_message_in_hand_and_the_others_wait(
    rabbitmq: RabbitMQNode, rabbitmq_app: Celery, tmp_path: Path
) -> None:
    """What lies in a worker that is killed counts as delivered, whether or not it ever ran."""
    first, *others = [bundle(job()) for _ in range(3)]
    for sent in (first, *others):
        send(rabbitmq_app, sent)
    with worker(tmp_path, FAILPOINTS="worker.received=sleep:10") as running:
        marked = tmp_path / "run" / "failpoint.worker.received"
        wait_for(marked.exists, PATIENCE_SECONDS, running.log)
        waiting = [Bundle.from_message(message).id for message in rows.drain(rabbitmq_app, "inference.cpu")]
        assert waiting == [sent.id for sent in others]
        consumers = told(rabbitmq, rabbitmq_app, "list_consumers", "queue_name", "prefetch_count")
        assert [prefetch for name, prefetch in consumers if name == "inference.cpu"] == ["1"]
        assert codes(Reports(rabbitmq_app, running).result(first.id), first.jobs) == [None]


def set_timeout(node: RabbitMQNode, seconds: int) -> None:
    """Say how long a message may be held on channels that are opened from now on; look each second, not each minute."""
    for name, milliseconds in {"consumer_timeout": seconds * 1000, "channel_tick_interval": 1000}.items():
        node.ctl("eval", f"application:set_env(rabbit, {name}, {milliseconds}).")


def test_a_message_held_longer_than_the_broker_allows_is_handed_back(
    rabbitmq: RabbitMQNode, rabbitmq_app: Celery, tmp_path: Path
) -> None:
    held = bundle(job(), job())
    send(rabbitmq_app, held, seconds=300)
    set_timeout(rabbitmq, 3)
    try:
        with worker(tmp_path, FAILPOINTS="worker.received=sleep:300") as holding:
            # RabbitMQ closes its channel; it will end with its task, and its supervisor starts it again.
            said = "delivery acknowledgement on channel 1 timed out"
            wait_for(lambda: said in holding.log(), PATIENCE_SECONDS, holding.log)
    finally:
        set_timeout(rabbitmq, 1800)
    with worker(tmp_path) as running:
        reports = Reports(rabbitmq_app, running)
        assert codes(reports.result(held.id), held.jobs) == [ErrorCode.WORKER_LOST] * 2
        served(reports, rabbitmq_app)
