"""Publishing is confirmed or an error, never silence; the embedded broker loses and doubles nothing."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.integration import rows
from tests.ports import free_port
from tests.rabbitmq_node import RabbitMQNode
from tests.stack import ROOT
from workers import publisher as publisher_module
from workers import topology
from workers.publisher import Publisher

TASK = "results.heartbeat"


@pytest.fixture
def publisher(broker_app: Celery) -> Iterator[Publisher]:
    yield from _closed(Publisher(broker_app))


@pytest.fixture
def rabbitmq_publisher(rabbitmq_app: Celery) -> Iterator[Publisher]:
    yield from _closed(Publisher(rabbitmq_app))


def _closed(made: Publisher) -> Iterator[Publisher]:
    try:
        yield made
    finally:
        made.close()


def send(publisher: Publisher, number: int, *, again: bool = False) -> None:
    method = publisher.send_again if again else publisher.send
    method(TASK, {"number": number}, exchange=topology.RESULTS, routing_key="test", about="a test")


def numbers(app: Celery) -> list[int]:
    return [message["number"] for message in rows.drain(app, topology.RECORDER)]


def test_what_was_sent_is_in_the_queue_in_order(broker_app: Celery, publisher: Publisher) -> None:
    for number in range(20):
        send(publisher, number)
    assert numbers(broker_app) == list(range(20))


def test_threads_that_share_a_publisher_lose_nothing(broker_app: Celery, publisher: Publisher) -> None:
    rows.in_threads(*(lambda i=i: [send(publisher, 10 * i + j) for j in range(10)] for i in range(5)))  # type: ignore[misc]
    assert sorted(numbers(broker_app)) == list(range(50))


def test_a_closed_publisher_opens_again(broker_app: Celery, publisher: Publisher) -> None:
    publisher.close()
    send(publisher, 1)
    publisher.close()
    publisher.close()
    send(publisher, 2)
    assert numbers(broker_app) == [1, 2]


def test_a_frozen_broker_is_an_error_within_the_time_out_and_later_a_new_connection_works(
    rabbitmq: RabbitMQNode, rabbitmq_app: Celery, rabbitmq_publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "SOCKET_TIMEOUT", 1.0)
    send(rabbitmq_publisher, 1)
    with rabbitmq.frozen():
        for number in (2, 3):  # on the open connection, then on none
            begun = time.monotonic()
            with pytest.raises(Exception, match="tim"):
                send(rabbitmq_publisher, number)
            assert time.monotonic() - begun < 5
    send(rabbitmq_publisher, 4)
    found = numbers(rabbitmq_app)
    # Number 2 was perhaps stored: the broker read it once it woke. It is not allowed to be there twice.
    assert [n for n in found if n != 2] == [1, 4]
    assert found.count(2) <= 1


def test_a_broker_that_wakes_in_time_is_waited_for(
    rabbitmq: RabbitMQNode, rabbitmq_app: Celery, rabbitmq_publisher: Publisher
) -> None:
    send(rabbitmq_publisher, 1)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            send(rabbitmq_publisher, 2)
        except BaseException as error:
            errors.append(error)

    with rabbitmq.frozen():
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(1)
        assert thread.is_alive(), "sent without the broker's word"
    thread.join(15)
    assert errors == []
    assert numbers(rabbitmq_app) == [1, 2]


def test_a_connection_that_the_broker_closed_is_replaced_by_send_again(
    rabbitmq: RabbitMQNode, rabbitmq_app: Celery, rabbitmq_publisher: Publisher
) -> None:
    send(rabbitmq_publisher, 1)
    rabbitmq.ctl("close_all_connections", "for a test")
    send(rabbitmq_publisher, 2, again=True)
    assert numbers(rabbitmq_app) == [1, 2]


def test_a_send_on_a_connection_that_the_broker_closed_is_stored_or_an_error(
    rabbitmq: RabbitMQNode, rabbitmq_app: Celery, rabbitmq_publisher: Publisher
) -> None:
    send(rabbitmq_publisher, 1)
    rabbitmq.ctl("close_all_connections", "for a test")
    try:
        send(rabbitmq_publisher, 2)
        expected = [1, 2, 3]
    except Exception:
        expected = [1, 3]
    send(rabbitmq_publisher, 3)
    assert numbers(rabbitmq_app) == expected


def test_a_broker_that_is_away_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", f"amqp://guest:guest@127.0.0.1:{free_port()}//")
    absent = Publisher(rows.make_app())
    begun = time.monotonic()
    for number in range(3):
        with pytest.raises(Exception, match="refused"):
            send(absent, number)
    assert time.monotonic() - begun < 2


def test_send_again_waits_for_a_broker_that_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has a result in hand: giving up at once would throw its work away."""
    tries: list[float] = []
    monkeypatch.setattr(publisher_module, "RETRY_PAUSES", (0.0, 0.1, 0.1))
    monkeypatch.setenv("BROKER_URL", f"amqp://guest:guest@127.0.0.1:{free_port()}//")

    class Counting(Publisher):
        def _open(self) -> Any:
            tries.append(time.monotonic())
            return super()._open()

    with pytest.raises(Exception, match="refused"):
        send(Counting(rows.make_app()), 1, again=True)
    assert len(tries) == 4


PUTTER = """
import sys
from tests.integration import rows
from workers import topology
from workers.publisher import Publisher
first, count = int(sys.argv[1]), int(sys.argv[2])
publisher = Publisher(rows.make_app())
for number in range(first, first + count):
    message = {"number": number, "ballast": "x" * (number % 7) * 3000}
    publisher.send("results.heartbeat", message, exchange=topology.RESULTS, routing_key="test")
publisher.close()
"""
GETTER = """
import json, sys, time
from tests.integration import rows
from workers import topology
app = rows.make_app()
end = time.monotonic() + 30
with rows.connect(app) as connection, connection.channel() as channel:
    queue = rows.declared(app, topology.RECORDER)(channel)
    print("ready", flush=True)
    while time.monotonic() < end:
        message = queue.get()
        if message is None:
            time.sleep(0.002)
            continue
        args, _, _ = message.decode()
        message.ack()
        if args[0]["number"] < 0:
            break
        assert len(args[0]["ballast"]) == args[0]["number"] % 7 * 3000
        print(args[0]["number"], flush=True)
"""


def start(program: str, *arguments: int) -> subprocess.Popen[str]:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "inference_portal.settings", "PYTHONPATH": str(ROOT)}
    setup = "import django; django.setup()\n"
    command = [sys.executable, "-c", setup + program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_many_processes_put_and_get_and_nothing_is_lost_doubled_or_half_read(embedded_app: Celery) -> None:
    putters, getters, each = 3, 3, 100
    readers = [start(GETTER) for _ in range(getters)]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    writers = [start(PUTTER, each * i, each) for i in range(putters)]
    assert [writer.wait(30) for writer in writers] == [0] * putters
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()
    ends = Publisher(embedded_app)
    for _ in readers:
        ends.send(TASK, {"number": -1}, exchange=topology.RESULTS, routing_key="test")
    ends.close()
    found = Counter(int(line) for reader in readers for line in reader.communicate(timeout=30)[0].split())
    assert [reader.returncode for reader in readers] == [0] * getters
    assert found == Counter(range(putters * each))
    broker = Path(embedded_app.conf.broker_transport_options["data_folder_in"])
    assert [path.name for path in broker.iterdir()] == []


BINDER = """
import sys, time
from kombu import Exchange, Queue
from tests.integration import rows
app = rows.make_app()
with rows.connect(app) as connection, connection.channel() as channel:
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(30):
        queue = Queue(f"q{sys.argv[1]}-{i}", Exchange("new", type="topic"), routing_key=f"k{sys.argv[1]}")
        queue.bind(channel).declare()
        assert channel.get_table("new")
"""


def test_processes_that_start_together_lose_no_binding(embedded_app: Celery) -> None:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "inference_portal.settings", "PYTHONPATH": str(ROOT)}
    binders = [
        subprocess.Popen(
            [sys.executable, "-c", "import django; django.setup()\n" + BINDER, str(i)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(4)
    ]
    for binder in binders:
        assert binder.stdout is not None
        assert binder.stdout.readline() == "ready\n"
    for binder in binders:
        assert binder.stdin is not None
        binder.stdin.write("go\n")
        binder.stdin.flush()
    for binder in binders:
        binder.communicate(timeout=30)
    assert [binder.returncode for binder in binders] == [0] * 4
    table = Path(embedded_app.conf.broker_transport_options["control_folder"]) / "new.exchange"
    assert len(json.loads(table.read_text())) == 120


def test_a_getter_passes_over_other_queues_and_unfinished_files(embedded_app: Celery) -> None:
    folder = Path(embedded_app.conf.broker_transport_options["data_folder_in"])
    (folder / ".0000_draft.results.recorder.msg").write_text('{"half":')
    (folder / "0001_other.results.recorder.x.msg").write_text('{"half":')
    made = Publisher(embedded_app)
    send(made, 5)
    made.close()
    assert numbers(embedded_app) == [5]
    assert len(list(folder.iterdir())) == 2


def test_what_no_queue_takes_fails_alone_among_what_was_posted_with_it(
    rabbitmq_app: Celery, rabbitmq_publisher: Publisher
) -> None:
    for number, exchange in enumerate((topology.RESULTS, topology.REQUESTS, topology.RESULTS)):
        rabbitmq_publisher.post(TASK, {"number": number}, exchange=exchange, routing_key="nowhere")
    outcomes = rabbitmq_publisher.settle()
    assert [outcome is None for outcome in outcomes] == [True, False, True]
    assert "NO_ROUTE" in str(outcomes[1])
    assert rabbitmq_publisher.settle() == []
    send(rabbitmq_publisher, 3)
    assert numbers(rabbitmq_app) == [0, 2, 3]


def test_a_connection_that_is_lost_stays_lost_until_all_that_was_posted_is_settled(
    rabbitmq_app: Celery, rabbitmq_publisher: Publisher
) -> None:
    send(rabbitmq_publisher, 1)
    rabbitmq_publisher._connection.connection.transport.sock.shutdown(socket.SHUT_RDWR)
    for number in (2, 3, 4):
        rabbitmq_publisher.post(TASK, {"number": number}, exchange=topology.RESULTS, routing_key="test")
    assert None not in rabbitmq_publisher.settle()
    send(rabbitmq_publisher, 5)
    assert numbers(rabbitmq_app) == [1, 5]
