"""Sinks: a request names one, and its result goes there, tried until it has arrived; never twice in effect."""

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest
import yaml
from celery import Celery
from django.test import Client
from django.utils import timezone
from kombu import Connection, Queue
from pyarrow import fs
from standardwebhooks import Webhook

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role, Team
from inference_portal.deliveries import breaker
from inference_portal.deliveries.models import Delivery, Endpoint, Host
from inference_portal.deliveries.models.endpoint import new_secret
from inference_portal.deliveries.sinks.choice import NoSuchSink, choose
from inference_portal.deliveries.states import State
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result
from inference_portal.jobs.services import job_cancel
from inference_portal.store import model_store
from tests.integration import rows
from tests.integration.http import BODY, INFER, JOB, client, post, problem, put
from tests.integration.receiver import courier, deliver, receiving
from tests.integration.rows import success
from tests.integration.work import work
from tests.s3_server import s3_server
from tests.stack import wait_for

pytestmark = pytest.mark.django_db
NAMED = {"X-Inference-Sink": "shelf", "Prefer": "respond-async"}
ID = "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11"

Configure = Callable[..., None]


@pytest.fixture
def configure(tmp_path: Path, settings: Any) -> Configure:
    """Write the file of this process: the keywords are its sinks."""

    def write(**sinks: dict[str, Any]) -> None:
        path = tmp_path / f"sinks-{time.monotonic_ns()}.yaml"
        path.write_text(yaml.safe_dump(sinks))
        settings.SINKS_FILE = str(path)

    return write


@pytest.fixture
def shelf(tmp_path: Path, configure: Configure) -> Path:
    """The folder of the sink `shelf`."""
    root = tmp_path / "shelf"
    root.mkdir()
    configure(shelf={"type": "folder", "root": str(root)})
    return root


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def ended(team: Team, sink: str, number: int = 1) -> list[Job]:
    jobs = [rows.make_sent(team, sink=sink) for _ in range(number)]
    record_result(rows.result(*(success(job) for job in jobs)))
    return jobs


def due_now() -> None:
    Delivery.objects.filter(due_at__isnull=False).update(due_at=timezone.now())
    Host.objects.all().delete()


def tried() -> Delivery:
    """Try what is due, and return the only delivery."""
    due_now()
    deliver()
    return Delivery.objects.get()


def test_a_result_lies_where_the_sink_says(submitter: Client, shelf: Path) -> None:
    answer = post(submitter, INFER, BODY, **NAMED)
    job = answer["X-Inference-Id"]
    assert answer.status_code == 202, answer.content
    assert submitter.get(f"/api/jobs/{job}/").json()["sink"] == "shelf"
    assert not Delivery.objects.exists()
    assert work() == 1
    (waiting,) = submitter.get(f"/api/jobs/{job}/").json()["deliveries"]
    assert (waiting["sink"], waiting["webhook"], waiting["url"], waiting["state"]) == ("shelf", None, "", "pending")
    deliver()
    shown = submitter.get(f"/api/deliveries/{waiting['id']}/").json()
    key = f"team/wine/{Job.objects.get(id=job).finished_at:%Y-%m-%d}/{job}.json"
    assert (shown["state"], shown["status"], shown["error"]) == ("delivered", None, "")
    assert shown["attempts"][0]["excerpt"] == key
    assert files(shelf) == [key]
    assert stat.S_IMODE((shelf / key).stat().st_mode) == 0o640
    content = json.loads((shelf / key).read_text())
    assert (content["model_name"], content["id"]) == ("wine", job)
    assert content["outputs"] == json.loads(bytes(Job.objects.get(id=job).result or b""))
    # Sent again it is the same file, and what a courier that was killed has left is gone.
    before = (shelf / key).read_bytes()
    (shelf / key).with_name(f".{job}.json.{'0' * 32}.part").write_text("half")
    assert post(submitter, f"/api/deliveries/{waiting['id']}/redeliver/").status_code == 202
    deliver()
    assert (files(shelf), (shelf / key).read_bytes()) == ([key], before)
    assert Delivery.objects.get().tries == 2


def test_put_and_bulk_name_one_too_and_each_format_is_written(
    submitter: Client, tmp_path: Path, configure: Configure
) -> None:
    root = tmp_path / "all"
    root.mkdir()
    kinds = ("json", "csv", "parquet")
    key = "{{ model }}/v{{ version }}/{{ job }}.{{ extension }}"
    configure(**{kind: {"type": "folder", "root": str(root), "format": kind, "key": key} for kind in kinds})
    bulk = post(submitter, "/api/jobs/bulk/", {"jobs": [{**JOB, "sink": kind} for kind in kinds]}).json()["results"]
    assert put(submitter, f"/api/jobs/{ID}/", {**JOB, "sink": "csv"}).status_code == 202
    work()
    deliver()
    names = [f"wine/v1/{answer['Id']}.{kind}" for answer, kind in zip(bulk, kinds, strict=True)]
    assert files(root) == sorted([*names, f"wine/v1/{ID}.csv"])
    table = pq.read_table(root / names[2]).to_pydict()
    text = (root / names[1]).read_text().splitlines()
    outputs = json.loads((root / names[0]).read_text())["outputs"]
    assert text[0] == "probability_0,probability_1,probability_2,label"
    assert text[1].split(",")[3] == table["label"][0] == outputs[1]["data"][0]


def test_one_that_is_unknown_and_one_of_others_are_refused_alike(
    submitter: Client, tmp_path: Path, configure: Configure
) -> None:
    configure(theirs={"type": "folder", "root": str(tmp_path), "teams": ["others"]})
    told = "there is no such sink for this team"
    for name in ("theirs", "none", "../etc", "s3://bucket", "http://10.0.0.1/"):
        refused = problem(post(submitter, INFER, BODY, **{"X-Inference-Sink": name}), 422, "invalid-input")
        assert refused["detail"] == f"X-Inference-Sink: {told}"
        for answer in (
            post(submitter, "/api/jobs/", {**JOB, "sink": name}),
            put(submitter, f"/api/jobs/{ID}/", {**JOB, "sink": name}),
        ):
            assert problem(answer, 422, "invalid-input")["errors"] == [{"pointer": "/sink", "detail": told}]
    (one,) = post(submitter, "/api/jobs/bulk/", {"jobs": [{**JOB, "sink": "theirs"}]}).json()["results"]
    assert (one["status"], one["errors"][0]["pointer"]) == (422, "/sink")
    problem(post(submitter, "/api/jobs/", {**JOB, "sink": 5}), 422, "invalid-input")
    assert not Job.objects.exists()
    assert post(client(rows.make_team("others")), "/api/jobs/", {**JOB, "sink": "theirs"}).status_code == 202


def test_another_sink_is_another_request_and_a_repeat_joins_though_the_sink_is_gone(
    submitter: Client, shelf: Path, configure: Configure
) -> None:
    sent = {"Idempotency-Key": "one", **NAMED}
    first = post(submitter, INFER, BODY, **sent)
    problem(
        post(submitter, INFER, BODY, **{k: v for k, v in sent.items() if k != "X-Inference-Sink"}),
        422,
        "idempotency-mismatch",
    )
    configure()
    assert post(submitter, INFER, BODY, **sent).json() == first.json()
    problem(post(submitter, INFER, BODY, **NAMED), 422, "invalid-input")


def test_a_model_names_one_for_the_teams_that_may_use_it(team: Team, tmp_path: Path, configure: Configure) -> None:
    release = model_store().get("wine", "1")
    release = replace(release, manifest=release.manifest.model_copy(update={"sink": "lake"}))
    ours = Caller(team.id, Role.SUBMITTER, "test")
    theirs = Caller(rows.make_team("others").id, Role.OPERATOR, "test")
    folder = {"type": "folder", "root": str(tmp_path)}
    configure(lake={**folder, "teams": ["team"]}, other=folder)
    assert [choose("", release, each) for each in (ours, theirs)] == ["lake", ""]
    assert [choose("other", release, each) for each in (ours, theirs)] == ["other", "other"]
    with pytest.raises(NoSuchSink):
        choose("lake", release, theirs)
    # Until the operator has put it back.
    configure()
    assert choose("", release, ours) == "lake"


def test_what_a_sink_does_not_want_is_not_written_down(team: Team, tmp_path: Path, configure: Configure) -> None:
    configure(
        shelf={"type": "folder", "root": str(tmp_path)},
        line={"type": "amqp", "queue": "q"},
        picky={"type": "amqp", "queue": "q", "events": ["inference.job.failed", "inference.job.dead*"]},
    )
    for sink in ("shelf", "line", "picky"):
        assert job_cancel(job_id=rows.make_job(team, sink=sink).id)
    assert list(Delivery.objects.values_list("destination", "event_type")) == [("sink:line", "inference.job.cancelled")]


def test_fire_and_forget_keeps_its_result_until_it_is_in_the_sink(submitter: Client, shelf: Path) -> None:
    shelf.rmdir()
    answer = post(submitter, INFER, BODY, **{**NAMED, "Prefer": "respond-async-proxy"})
    work()
    delivery = tried()
    assert (delivery.state, delivery.error) == (State.RETRYING, "ENOENT: the sink's folder isn't there")
    assert not shelf.exists()
    assert rows.whole(answer["X-Inference-Id"])["result"]
    shelf.mkdir()
    assert tried().state == State.DELIVERED
    assert len(files(shelf)) == 1
    assert rows.whole(answer["X-Inference-Id"])["result"] is None
    problem(post(submitter, f"/api/deliveries/{delivery.id}/redeliver/"), 409, "conflict")


def test_one_that_vanished_is_tried_until_it_is_back(team: Team, shelf: Path, configure: Configure) -> None:
    ended(team, "shelf")
    configure()
    delivery = tried()
    assert (delivery.state, delivery.error) == (State.RETRYING, "the courier's file has no sink of this name")
    configure(shelf={"type": "folder", "root": str(shelf)})
    assert tried().state == State.DELIVERED


def test_what_is_wrong_in_a_folder_is_told_without_its_path(team: Team, shelf: Path, tmp_path: Path) -> None:
    ended(team, "shelf")
    (shelf / "team").write_text("in the way")
    delivery = tried()
    assert (delivery.state, delivery.error) == (State.RETRYING, "ENOTDIR: Not a directory")
    (shelf / "team").unlink()
    (tmp_path / "elsewhere").mkdir()
    (shelf / "team").symlink_to(tmp_path / "elsewhere")
    assert tried().error == "EACCES: a link leads out of the sink's folder"
    assert files(tmp_path / "elsewhere") == []
    (shelf / "team").unlink()
    assert tried().state == State.DELIVERED
    assert not any(name.endswith(".part") for name in files(shelf))


def test_a_result_that_is_gone_is_given_up(team: Team, shelf: Path) -> None:
    (job,) = ended(team, "shelf")
    Job.objects.filter(id=job.id).update(result=None)
    delivery = tried()
    assert (delivery.state, delivery.error) == (State.FAILED, "the result is no longer kept")
    assert not Host.objects.exists()


@contextmanager
def refusing_s3() -> Iterator[str]:
    """An S3 that knows nobody."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told = b"<Error><Code>InvalidAccessKeyId</Code><Message>It does not exist in our records.</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def lake(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a sink `lake` in the bucket `results` at an address."""

    def at(address: str) -> None:
        variables = {"S3_ENDPOINT": address, "S3_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "id"}
        for name, value in (variables | {"AWS_SECRET_ACCESS_KEY": "key"}).items():
            monkeypatch.setenv(name, value)
        configure(lake={"type": "s3", "bucket": "results", "format": "csv", "key": "{{ job }}.{{ extension }}"})

    return at


def test_s3_gets_an_object_and_until_then_says_why_not(team: Team, lake: Callable[[str], None]) -> None:
    (job,) = ended(team, "lake")
    lake("http://127.0.0.1:9")
    assert tried().error.startswith("S3: NETWORK_CONNECTION: ")
    with s3_server() as address:
        lake(address)
        delivery = tried()
        assert delivery.state == State.RETRYING
        assert delivery.error.startswith("S3: NO_SUCH_BUCKET: The specified bucket does not exist")
        owner = fs.S3FileSystem(
            endpoint_override=address, access_key="id", secret_key="key", region="us-east-1", allow_bucket_creation=True
        )
        owner.create_dir("results")
        assert tried().state == State.DELIVERED
        with owner.open_input_file(f"results/{job.id}.csv") as file:
            assert file.read().decode().splitlines()[0] == "probability_0,probability_1,probability_2"
            assert file.metadata()["Content-Type"] == b"text/csv"


def test_s3_that_refuses_the_account_is_told(team: Team, lake: Callable[[str], None]) -> None:
    """The server of the tests takes any account, so another one refuses here."""
    ended(team, "lake")
    with refusing_s3() as address:
        lake(address)
        delivery = tried()
    assert delivery.state == State.RETRYING
    assert delivery.error == "S3: INVALID_ACCESS_KEY_ID: It does not exist in our records."


def test_one_that_hangs_holds_up_no_other_and_takes_no_more_than_its_places(
    team: Team, lake: Callable[[str], None], settings: Any
) -> None:
    settings.WEBHOOK_TIMEOUT_SECONDS = 3.0
    settings.WEBHOOK_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with socket.create_server(("127.0.0.1", 0)) as silent, receiving() as receiver:
        lake(f"http://127.0.0.1:{silent.getsockname()[1]}")
        ended(team, "lake", breaker.CALLS_PER_HOST)
        with courier() as at_work:
            at_work.step()
            record_result(rows.result(success(rows.make_sent(team, webhook=receiver.url))))
            end = time.monotonic() + 30
            while at_work.step():
                assert time.monotonic() < end
        assert len(receiver.calls) == 1
        hung = Delivery.objects.exclude(destination="url")
        assert set(hung.values_list("state", "error")) == {(State.RETRYING, "it took longer than 3 s")}
        # They hang still.
        due_now()
        deliver()
        assert set(hung.values_list("error", flat=True)) == {f"{breaker.CALLS_PER_HOST} earlier tries hang"}
    wait_for(lambda: "sink lake" not in {each.name for each in threading.enumerate()}, 30, lambda: "they hang for ever")


def test_a_message_is_there_once_the_broker_has_confirmed_it(
    team: Team, configure: Configure, rabbitmq_app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = os.environ["BROKER_URL"]
    parts = urlsplit(url)
    monkeypatch.setenv("WRONG_URL", parts._replace(netloc=f"nobody:wrong@{parts.hostname}:{parts.port}").geturl())
    monkeypatch.setenv("AWAY_URL", "amqp://guest:guest@127.0.0.1:9//")
    line: dict[str, Any] = {"type": "amqp", "queue": "results"}
    (job,) = ended(team, "line")
    for changed, told in (
        ({"url_variable": "AWAY_URL"}, "Connection refused"),
        ({"url_variable": "WRONG_URL"}, "ACCESS_REFUSED"),
        ({"url_variable": "NOT_SET"}, "the courier's NOT_SET is no AMQP address"),
        ({"queue": None, "exchange": "missing"}, "no exchange 'missing'"),
        ({}, "NO_ROUTE"),
    ):
        configure(line={key: value for key, value in {**line, **changed}.items() if value})
        delivery = tried()
        assert delivery.state == State.RETRYING, changed
        assert told in delivery.error, delivery.error
    with Connection(url) as connection:
        queue = Queue("results", exchange=None, queue_arguments={"x-queue-type": "quorum"})(connection.default_channel)
        queue.declare()
        # Events of what failed come here, too.
        cancelled = rows.make_job(team, sink="line")
        assert job_cancel(job_id=cancelled.id)
        due_now()
        deliver()
        assert set(Delivery.objects.values_list("state", flat=True)) == {State.DELIVERED}
        found = {}
        while (message := queue.get(no_ack=True, accept=None)) is not None:
            event = json.loads(message.body)
            assert message.properties["message_id"] == event["id"]
            assert message.properties["delivery_mode"] == 2
            assert message.content_type.startswith("application/cloudevents+json")
            found[event["id"]] = event
    assert sorted(found) == sorted([f"job-{job.id}-1", f"job-{cancelled.id}-1"])
    assert found[f"job-{job.id}-1"]["data"]["outputs"] == json.loads(rows.OUTPUTS)


def test_a_webhook_of_an_operator_may_be_private_and_is_signed(
    team: Team, configure: Configure, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    key = new_secret()
    with receiving() as receiver:
        configure(desk={"type": "webhook", "url": receiver.url, "key_variable": "DESK_KEY"})
        (job,) = ended(team, "desk")
        delivery = tried()
        assert (delivery.state, delivery.error) == (
            State.RETRYING,
            "the courier's DESK_KEY is no key of Standard Webhooks",
        )
        monkeypatch.setenv("DESK_KEY", key)
        receiver.status = 503
        assert (tried().status, receiver.ids) == (503, [f"job-{job.id}-1"])
        receiver.status = 204
        assert tried().state == State.DELIVERED
        event = Webhook(key).verify(receiver.calls[-1].body, receiver.calls[-1].headers)
    assert event["data"]["outputs"] == json.loads(rows.OUTPUTS)
    assert not Endpoint.objects.exists()


def test_one_that_fails_is_left_alone_and_holds_up_no_other(team: Team, shelf: Path, configure: Configure) -> None:
    gone = {"type": "folder", "root": str(shelf / "gone")}
    configure(gone=gone, shelf={"type": "folder", "root": str(shelf)})
    ended(team, "gone", 30)
    ended(team, "shelf", 3)
    deliver()
    assert len(files(shelf)) == 3
    host = Host.objects.get()
    assert (host.name, host.failures) == ("sink:gone", breaker.FAILURES)
    assert Delivery.objects.filter(destination="sink:gone", tries=0).exists()
