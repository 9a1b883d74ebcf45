"""GET /metrics, with a key or on an address of its own: what Prometheus reads is what the database says."""

import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.db import OperationalError, connection
from django.db.backends.signals import connection_created
from django.test import Client
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from inference_portal import VERSION
from inference_portal.accounts.models import Role, Team
from inference_portal.api import metrics_address
from inference_portal.checks import check_metrics_address
from inference_portal.jobs.models import Job, ModelStatistics
from inference_portal.jobs.states import State
from inference_portal.jobs.waiting import hub
from tests.integration.dead import park
from tests.integration.http import client, problem
from tests.integration.rows import make_final, make_job, make_running, make_suspect, make_worker
from tests.integration.work import work
from tests.ports import free_port
from tests.stack import ROOT, wait_for

pytestmark = pytest.mark.django_db
PATH = "/metrics"
CPU = {"pool": "cpu", "lane": "cpu"}
ALONE = {"pool": "cpu", "lane": "cpu.isolated"}
WINE = {"model": "wine", "version": "1"}


@pytest.fixture
def operator(team: Team) -> Client:
    return client(team, Role.OPERATOR)


class Scrape:
    """One page, as Prometheus' own parser reads it."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, Metric] = {family.name: family for family in text_string_to_metric_families(text)}
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, sample: str, **labels: str) -> float:
        return self._values[f"inference_{sample}", frozenset(labels.items())]


def scrape(sender: Client, **headers: str) -> Scrape:
    answer = sender.get(PATH, headers=headers)
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Scrape(answer.content.decode())


def test_only_operators_see_it(team: Team) -> None:
    problem(Client().get(PATH), 401, "unauthenticated")
    for role in (Role.VIEWER, Role.SUBMITTER):
        problem(client(team, role).get(PATH), 403, "forbidden")


def test_each_lane_has_its_numbers_as_the_list_of_queues_has_them(team: Team, operator: Client) -> None:
    make_worker(processes=3)
    make_job(team)
    make_job(team, state=State.RETRYING, attempt=2)
    make_running(team)
    make_suspect(team)
    make_final(team, State.DEAD_LETTERED, isolated=True)
    park()
    page = scrape(operator)
    assert [page.value("open_jobs", **CPU, state=state) for state in ("queued", "retrying", "running")] == [1, 1, 1]
    assert page.value("open_jobs", **ALONE, state="queued") == 1
    lanes = {lane["lane"]: lane for lane in operator.get("/api/queues/").json()["results"]}
    assert (lanes["cpu"]["rows"], lanes["cpu"]["messages"], lanes["cpu"]["consumers"]) == (2, 1, 3)
    for name, lane in lanes.items():
        labels = {"pool": lane["pool"], "lane": name}
        assert page.value("waiting_jobs", **labels) == lane["rows"]
        assert page.value("messages_under_way", **labels) == lane["messages"]
        assert page.value("consumers", **labels) == lane["consumers"]
        assert page.value("dead_letters", **labels) == lane["dead_letters"] == (name == "cpu.isolated")
        assert page.value("oldest_wait_seconds", **labels) == pytest.approx(lane["oldest_wait_seconds"], abs=5)
    assert page.value("parked_messages") == 1
    assert page.value("database_up") == 1


def test_what_models_have_done_is_counted_in_seconds(team: Team, operator: Client) -> None:
    for _ in range(3):
        make_job(team, rows=2)
    assert work() == 3
    ModelStatistics.objects.create(model="wine", version="2", failed=4, failed_us=6_500_000)
    page = scrape(operator)
    assert page.value("job_seconds_count", **WINE, outcome="succeeded") == 3
    assert page.value("job_seconds_count", **WINE, outcome="failed") == 0
    assert page.value("rows_predicted_total", **WINE) == 6
    assert page.value("predict_calls_total", **WINE) == 1
    ended = [(job.finished_at - job.queued_at).total_seconds() for job in Job.objects.all() if job.finished_at]
    assert page.value("job_seconds_sum", **WINE, outcome="succeeded") == pytest.approx(sum(ended), abs=1e-3)
    for part in ("queue", "run"):
        assert page.value(f"job_{part}_seconds_count", **WINE) == 3
        assert 0 < page.value(f"job_{part}_seconds_sum", **WINE) <= sum(ended)
    assert page.value("job_seconds_count", model="wine", version="2", outcome="failed") == 4
    assert page.value("job_seconds_sum", model="wine", version="2", outcome="failed") == 6.5


def test_what_only_this_process_knows_carries_its_name(operator: Client) -> None:
    def taken() -> float:
        page = scrape(operator)
        (process,) = {sample.labels["process"] for sample in page.families["inference_places"].samples}
        places = page.value("places", process=process, kind="waiting_requests")
        assert (process.startswith(f"{socket.gethostname()}/"), places) == (True, hub.places)
        assert page.value("places_taken", process=process, kind="event_streams") == 0
        return page.value("places_taken", process=process, kind="waiting_requests")

    assert taken() == 0
    with hub.place(uuid4()), hub.place(uuid4()):
        assert taken() == 2
    assert taken() == 0


def test_the_docs_list_every_metric_with_its_labels(team: Team, operator: Client) -> None:
    make_job(team)
    work()
    families = scrape(operator).families
    shown = {name: family.samples[0].labels.keys() for name, family in families.items()}
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"(?m)^\| `(inference_\w+?)(?:_total)?` \| ([^|]*)\|", page)
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == shown


def test_names_are_the_portals_own_and_each_is_explained(team: Team, operator: Client) -> None:
    make_job(team)
    work()
    families = scrape(operator).families
    assert all(name.startswith("inference_") for name in families)
    assert all(family.documentation.endswith(".") and family.samples for family in families.values())
    (build,) = families["inference_build_info"].samples
    assert build.labels["version"] == VERSION


@pytest.mark.parametrize(
    "accept",
    ["application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text;version=x", "?", ""],
)
def test_whatever_is_accepted_the_answer_is_text(operator: Client, accept: str) -> None:
    assert scrape(operator, Accept=accept).value("database_up") == 1


@contextmanager
def database_away() -> Iterator[None]:
    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        raise OperationalError("server closed the connection unexpectedly")

    with connection.execute_wrapper(refuse):
        yield


def test_while_the_database_is_away_that_is_what_the_page_says(operator: Client) -> None:
    scrape(operator)  # the key is known from here on
    with database_away():
        page = scrape(operator)
    assert page.value("database_up") == 0
    assert "inference_open_jobs" not in page.families
    assert {"inference_places", "inference_places_taken", "inference_build_info"} < page.families.keys()
    assert scrape(operator).value("database_up") == 1


# An address of its own


@contextmanager
def listening(port: int) -> Iterator[None]:
    server = metrics_address.listen("127.0.0.1", port, again=0.05)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def get(port: int) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{PATH}", headers={"Connection": "close"}, timeout=20)


@pytest.mark.django_db(transaction=True)
def test_the_address_of_its_own_asks_for_no_key_and_says_the_same(team: Team, operator: Client) -> None:
    make_job(team)
    port = free_port()
    with listening(port):
        answer = get(port)
    assert answer.status_code == 200
    here, there = Scrape(answer.text), scrape(operator)
    assert here.families.keys() == there.families.keys()
    assert here.value("waiting_jobs", **CPU) == there.value("waiting_jobs", **CPU) == 1


@pytest.mark.django_db(transaction=True)
def test_no_scrape_leaves_a_database_connection_behind(operator: Client) -> None:
    opened: list[Any] = []

    def note(connection: Any, **_: Any) -> None:
        opened.append(connection)

    connection_created.connect(note)
    try:
        port = free_port()
        with listening(port):
            for _ in range(3):
                assert Scrape(get(port).text).value("database_up") == 1
    finally:
        connection_created.disconnect(note)
    assert [wrapper.connection for wrapper in opened] == [None] * 3
    scrape(operator)
    assert connection.connection is None


def test_a_second_process_starts_without_the_address_and_takes_it_once_it_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    got_it, over = threading.Event(), threading.Event()

    def second_process() -> None:
        with listening(port):
            got_it.set()
            over.wait(20)

    second = threading.Thread(target=second_process, daemon=True)
    with caplog.at_level(logging.INFO), listening(port):
        second.start()
        wait_for(lambda: "trying again" in caplog.text, 20, lambda: caplog.text)
        assert not got_it.wait(0.3)
    assert got_it.wait(20)
    over.set()
    second.join(20)
    assert caplog.text.count("trying again") == 1


@pytest.mark.parametrize("address", ["", "127.0.0.1:9100", "[::1]:9100", "0.0.0.0:1", "metrics.internal:65535"])
def test_a_right_address_passes_the_check(settings: Any, address: str) -> None:
    settings.METRICS_ADDRESS = address
    assert check_metrics_address() == []


@pytest.mark.parametrize(
    "address", ["9100", ":9100", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "::1:9100", "http://x:1"]
)
def test_a_wrong_address_is_found_by_the_check(settings: Any, address: str) -> None:
    settings.METRICS_ADDRESS = address
    (error,) = check_metrics_address()
    assert error.id == "inference.E006"
    assert address in error.msg and error.hint and "127.0.0.1:9100" in error.hint
