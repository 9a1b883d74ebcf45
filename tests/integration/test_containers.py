"""Models in containers: through the queue as any job, straight as a relay, and what of a request a container sees."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.catalog import golden
from inference_portal.deliveries.models import Delivery
from inference_portal.jobs import relay
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result
from inference_portal.jobs.rerun import NotWaiting, can_be_rerun, rerun
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.sweep import sweep
from inference_portal.jobs.turns import Lane
from inference_portal.store import model_store
from tests.container_server import Container, answering, container_server, dying, hanging, two_labels
from tests.integration.deliveries import make_endpoint
from tests.integration.http import ASYNC, BODY, INFER, client, post, problem
from tests.integration.rows import in_threads, take
from tests.integration.versions import versions
from tests.integration.work import run
from tests.stack import wait_for
from tests.unit.builders import manifest_dict
from workers.contract import ErrorCode

pytestmark = pytest.mark.django_db
PATH = "/v2/models/boxed/infer"
ONE = {"instances": [[9, 2, 3]]}
LANE = {Lane("container", False): 9}
RELAY = {"Prefer": "respond-async-container"}
ID = "6f2a1c30-6a8e-4a52-9c3e-6a3a6a1b2c3d"


@pytest.fixture
def container() -> Iterator[Container]:
    with container_server(two_labels) as running:
        yield running


@pytest.fixture(autouse=True)
def store(container: Container, monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> Iterator[Path]:
    """The model `boxed` is in the container."""
    folder = tmp_path / "store"
    folder.mkdir()
    with versions(monkeypatch, settings, folder):
        box(folder, container.url)
        yield folder


def box(store: Path, url: str, **section: Any) -> None:
    place = store / "boxed" / "1"
    place.mkdir(parents=True, exist_ok=True)
    samples = {"inputs": [[9, 2, 3]], "outputs": {"label": ["yes"]}}
    manifest = manifest_dict(
        model="boxed",
        runtime="container",
        pool="container",
        device=...,
        artifact=...,
        container={"urls": [url], "timeout_seconds": 2, "headers": {"Authorization": "Bearer ours"}, **section},
        golden={"file": "golden.json"},
    )
    (place / "golden.json").write_text(json.dumps(samples))
    (place / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    model_store.cache_clear()


def work() -> None:
    for claimed in take(LANE):
        record_result(run(claimed))


def headers_of(container: Container, index: int = 0) -> dict[str, str]:
    return {name.lower(): value for name, value in container.asked[index].headers.items()}


def test_a_job_goes_through_the_pool_of_containers_and_alone(submitter: Client, container: Container) -> None:
    jobs = [post(submitter, PATH, ONE, **ASYNC).json()["Id"] for _ in range(3)]
    assert set(Job.objects.values_list("pool", flat=True)) == {"container"}
    claims = take(LANE)
    assert [len(claimed.jobs) for claimed in claims] == [1, 1, 1]
    for claimed in claims:
        record_result(run(claimed))
    for job in jobs:
        assert submitter.get(f"/result/boxed/{job}").json()["predictions"][0]["label"] == "yes"
    assert {headers_of(container, i)["x-inference-id"] for i in range(3)} == set(jobs)
    assert headers_of(container)["x-inference-attempt"] == "1"
    assert "prefer" not in headers_of(container)
    assert Job.objects.first().sha256 == model_store().get("boxed").manifest.sha256  # type: ignore[union-attr]


def test_what_a_client_prefers_of_others_is_passed_on(submitter: Client, container: Container) -> None:
    post(submitter, PATH, ONE, Prefer="handling=lenient, respond-async, x; y=1, wait=0")
    work()
    assert headers_of(container)["prefer"] == "handling=lenient, x; y=1"


def test_fire_and_forget_lets_the_container_go_on(submitter: Client, container: Container) -> None:
    container.behave(answering({"task": 7}, 202))
    answer = post(submitter, PATH, ONE, Prefer="respond-async-proxy")
    assert (answer.status_code, answer.content) == (202, b"")
    work()
    job = Job.objects.get()
    assert (job.state, job.result, bytes(job.input)) == ("succeeded", None, b"")
    assert headers_of(container)["prefer"] == "respond-async"


@pytest.mark.parametrize(
    ("behaviour", "code", "state"),
    [
        (answering({}, 503), "container-unavailable", "retrying"),
        (dying, "container-unavailable", "retrying"),
        (hanging, "container-unavailable", "retrying"),
        (answering({"outputs": []}), "container-error", "failed"),
        (answering(b"nonsense"), "container-error", "failed"),
        (answering({}, 500), "container-error", "failed"),
        (answering({"error": "no"}, 400), "bad-data", "failed"),
    ],
)
def test_each_misbehaviour_has_its_code_and_its_decision(
    submitter: Client, container: Container, behaviour: Any, code: str, state: str
) -> None:
    container.behave(behaviour)
    accepted = post(submitter, PATH, ONE, **ASYNC).json()
    work()
    job = Job.objects.get()
    assert (job.state, job.error_code) == (state, code), job.error_message
    if state == "failed":
        problem(submitter.get(accepted["ResultPath"]), 422 if code == "bad-data" else 502, code)
    else:
        container.behave(two_labels)
        Job.objects.update(not_before=timezone.now() - timedelta(seconds=1))
        work()
        assert submitter.get(accepted["ResultPath"]).status_code == 200
        assert headers_of(container, -1)["x-inference-attempt"] == "2"


def test_a_release_is_told_by_its_section_and_proved_by_its_samples(
    team: Team, store: Path, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "let_go", work)
    operator = client(team, Role.OPERATOR)
    released = post(operator, "/api/models/boxed/versions/1/release/", {})
    assert released.status_code in (200, 201), released.content
    before = model_store().get("boxed").manifest.sha256
    assert released.json()["sha256"] == before
    box(store, container.url, max_rows=7)
    assert model_store().get("boxed").manifest.sha256 != before
    shown = operator.get("/api/models/boxed/versions/1/").json()
    assert shown["runtime"] == "container" and "urls" not in str(shown)


class TestRelay:
    """`respond-async-container`."""

    def test_the_container_s_answer_is_the_answer(self, submitter: Client, container: Container) -> None:
        container.behave(answering({"task": 7}, 202, "application/vnd.task+json", Set_Cookie="a=b", Location="/x"))
        sent = {"Prefer": "respond-async-container, handling=lenient", "Cookie": "c=d", "Accept": "application/json"}
        answer = post(submitter, PATH, ONE, **sent, X_Inference_Webhook_Not="x")
        assert (answer.status_code, answer.json()) == (202, {"task": 7})
        assert answer["Content-Type"] == "application/vnd.task+json"
        assert "Set-Cookie" not in answer and "Location" not in answer
        assert answer["Preference-Applied"] == "respond-async-container"
        job = Job.objects.get()
        assert (job.state, job.pool, str(job.id)) == ("succeeded", "relay", answer["X-Inference-Id"])
        seen = headers_of(container)
        assert seen["prefer"] == "respond-async, handling=lenient"
        assert seen["authorization"] == "Bearer ours"
        assert (seen["x-inference-id"], seen["x-inference-attempt"]) == (str(job.id), "1")
        assert "cookie" not in seen
        assert container.asked[0].json == ONE

    @pytest.mark.parametrize("status", [200, 204, 400, 404, 500, 503])
    def test_whatever_its_status(self, submitter: Client, container: Container, status: int) -> None:
        body = b"" if status == 204 else b"\xff\x00 any bytes"
        container.behave(answering(body, status, "application/octet-stream"))
        for _ in range(2):
            answer = post(submitter, PATH, ONE, **RELAY, **{"X-Inference-Id": ID})
            assert (answer.status_code, answer.content) == (status, body)
        kept = submitter.get(f"/result/boxed/{ID}")
        assert (kept.status_code, kept.content, kept["Content-Type"]) == (status, body, "application/octet-stream")
        assert len(container.asked) == 1

    @pytest.mark.parametrize("behaviour", [dying, hanging])
    def test_without_an_answer_it_has_failed_and_is_not_repeated(
        self, submitter: Client, container: Container, behaviour: Any
    ) -> None:
        container.behave(behaviour, two_labels)
        for _ in range(2):
            answer = post(submitter, PATH, ONE, **RELAY, **{"Idempotency-Key": "k"})
            problem(answer, 502, "container-unavailable")
        assert len(container.asked) == 1
        job = Job.objects.get()
        assert (job.state, job.error_code) == ("failed", "container-unavailable")
        assert not can_be_rerun(job)
        assert take(LANE) == []

    def test_an_answer_that_is_too_large_is_none(self, submitter: Client, container: Container) -> None:
        container.behave(answering(b" " * (relay.MOST_BYTES + 1)))
        problem(post(submitter, PATH, ONE, **RELAY), 502, "container-error")

    def test_nobody_there(self, submitter: Client, store: Path) -> None:
        box(store, "http://127.0.0.1:9/infer")
        problem(post(submitter, PATH, ONE, **RELAY), 502, "container-unavailable")

    def test_other_models_have_none(self, submitter: Client) -> None:
        problem(post(submitter, INFER, BODY, **RELAY), 422, "not-a-container")
        assert not Job.objects.exists()

    def test_a_job_that_waits_in_the_queue_is_not_relayed_too(self, submitter: Client, container: Container) -> None:
        post(submitter, PATH, ONE, **ASYNC, **{"X-Inference-Id": ID})
        work()
        answer = post(submitter, PATH, ONE, **RELAY, **{"X-Inference-Id": ID})
        assert answer.json()["predictions"][0]["label"] == "yes"
        assert len(container.asked) == 1

    def test_bad_input_is_not_relayed(self, submitter: Client, container: Container) -> None:
        problem(post(submitter, PATH, {"instances": [[1]]}, **RELAY), 422, "invalid-input")
        problem(post(submitter, PATH, ONE, **RELAY, **{"X-Inference-Ordering-Key": "k"}), 400, "malformed")
        assert not container.asked and not Job.objects.exists()

    def test_places_are_bounded(self, submitter: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(relay, "places", relay.Places(0))
        problem(post(submitter, PATH, ONE, **RELAY), 503, "no-place-to-wait")
        assert not Job.objects.exists()
        assert post(submitter, PATH, ONE, **ASYNC).status_code == 202

    def test_its_end_is_told_as_that_of_any_job(self, team: Team, submitter: Client, container: Container) -> None:
        make_endpoint(team)
        container.behave(answering({"fine": True}))
        post(submitter, PATH, ONE, **RELAY)
        container.behave(dying)
        post(submitter, PATH, ONE, **RELAY)
        told = Delivery.objects.values_list("event_type", flat=True)
        assert sorted(told) == ["inference.job.failed", "inference.job.succeeded"]

    def test_a_portal_that_died_meanwhile_leaves_a_relay_that_failed(self, team: Team, submitter: Client) -> None:
        post(submitter, PATH, ONE, **RELAY, **{"X-Inference-Id": ID})
        past = timezone.now() - timedelta(seconds=1)
        Job.objects.update(state="running", lease_until=past, finished_at=None, result=None)
        assert sweep() == 1
        assert sweep() == 0
        problem(post(submitter, PATH, ONE, **RELAY, **{"X-Inference-Id": ID}), 502, "container-unavailable")
        with pytest.raises(NotWaiting):
            rerun(job=Job.objects.get(), caller=None)  # type: ignore[arg-type]

    @pytest.mark.django_db(transaction=True)
    def test_a_repeat_meanwhile_waits_and_a_cancelled_one_keeps_nothing(
        self, submitter: Client, container: Container
    ) -> None:
        go_on = threading.Event()

        def slow(handler: Any, asked: Any) -> None:
            go_on.wait(10)
            answering({"task": 7}, 202)(handler, asked)

        container.behave(slow)

        def relayed() -> Any:
            return post(submitter, PATH, ONE, **RELAY, **{"X-Inference-Id": ID})

        def then() -> None:
            wait_for(lambda: Job.objects.filter(state="running").exists(), 5, lambda: "no relay runs")
            status = submitter.get(f"/status/boxed/{ID}").json()
            assert status["State"] == "running"
            threading.Timer(0.5, go_on.set).start()
            again = relayed()
            assert (again.status_code, again.json()) == (202, {"task": 7})

        first, _ = in_threads(relayed, then)
        assert first.json() == {"task": 7}
        assert len(container.asked) == 1

        go_on.clear()

        def other() -> Any:
            return post(submitter, PATH, ONE, **RELAY)

        def cancels() -> None:
            wait_for(lambda: Job.objects.filter(state="running").exists(), 5, lambda: "no relay runs")
            assert job_cancel(job_id=Job.objects.get(state="running").id)
            go_on.set()

        answered, _ = in_threads(other, cancels)
        assert answered.status_code == 202
        job = Job.objects.get(id=answered["X-Inference-Id"])
        assert (job.state, job.result, job.error_code) == ("cancelled", None, "")


def test_codes_of_containers_are_stable() -> None:
    assert (ErrorCode.CONTAINER_UNAVAILABLE, ErrorCode.CONTAINER_ERROR) == ("container-unavailable", "container-error")
