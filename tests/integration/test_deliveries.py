"""The ledger: what is to be delivered is written down with the end itself, tried, tried again, and redelivered."""

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook

from inference_portal.accounts.models import Role, Team
from inference_portal.batches.ending import tell
from inference_portal.batches.models import Kind
from inference_portal.deliveries import breaker, claims, courier, events, ledger, outcomes
from inference_portal.deliveries.models import Delivery, DeliveryAttempt, Endpoint, Host
from inference_portal.deliveries.retry import Answer
from inference_portal.deliveries.states import State
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.sweep import expire
from tests.integration import rows
from tests.integration.deliveries import make_endpoint
from tests.integration.http import BODY, INFER, JOB, client, post, problem, put, send
from tests.integration.made_batches import make_batch
from tests.integration.receiver import Receiver, deliver, receiving
from tests.integration.receiver import courier as at_work
from tests.integration.rows import failure, success, take
from tests.integration.work import work
from tests.stack import wait_for
from workers.contract import ErrorCode

pytestmark = pytest.mark.django_db
PROXY = {"Prefer": "respond-async-proxy"}
WEBHOOKS = "/api/webhooks/"


@pytest.fixture(autouse=True)
def _private_receivers(settings: Any) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    settings.WEBHOOK_TIMEOUT_SECONDS = 2.0


@pytest.fixture
def receiver() -> Any:
    with receiving() as running:
        yield running


def register(sender: Client, url: str, **fields: Any) -> dict[str, Any]:
    answer = post(sender, WEBHOOKS, {"url": url, **fields})
    assert answer.status_code == 201, answer.content
    body: dict[str, Any] = answer.json()
    assert answer["Location"] == f"{WEBHOOKS}{body['id']}/"
    return body


def submit(sender: Client, url: str = "", **headers: str) -> Job:
    named = {"X-Inference-Webhook": url} if url else {}
    answer = post(sender, INFER, BODY, **{"Prefer": "respond-async", **named, **headers})
    assert answer.status_code == 202, answer.content
    return Job.objects.get(id=answer["X-Inference-Id"])


def due_now() -> None:
    Delivery.objects.filter(due_at__isnull=False).update(due_at=timezone.now())
    Host.objects.update(closed_until=None)


def states() -> list[str]:
    return list(Delivery.objects.order_by("created_at").values_list("state", flat=True))


def test_a_result_goes_to_the_address_that_the_request_names(submitter: Client, receiver: Receiver) -> None:
    job = submit(submitter, receiver.url)
    assert states() == []
    assert work() == 1
    assert states() == ["pending"]
    deliver()
    (call,) = receiver.calls
    secret = submitter.get(f"{WEBHOOKS}secret/").json()["secret"]
    event = Webhook(secret).verify(call.body, call.headers)
    assert call.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert event["specversion"] == "1.0"
    assert (event["type"], event["subject"]) == ("inference.job.succeeded", str(job.id))
    assert event["id"] == call.headers["webhook-id"] == f"job-{job.id}-1"
    result = submitter.get(f"/result/wine/{job.id}", headers={"Accept": "application/json"}).json()
    (tensor,) = [each for each in event["data"]["outputs"] if each["name"] == "probability"]
    assert tensor["datatype"] == "FP32"
    assert result
    shown = submitter.get(f"/api/jobs/{job.id}/").json()["deliveries"]
    assert [(each["state"], each["tries"], each["status"], each["url"]) for each in shown] == [
        ("delivered", 1, 204, receiver.url)
    ]


def test_put_and_bulk_name_an_address_too(submitter: Client, receiver: Receiver) -> None:
    bulk = post(submitter, "/api/jobs/bulk/", {"jobs": [{**JOB, "webhook": receiver.url}, JOB]}).json()["results"]
    named = put(submitter, "/api/jobs/0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11/", {**JOB, "webhook": receiver.url})
    assert named.status_code == 202
    work()
    deliver()
    assert sorted(receiver.ids) == sorted([f"job-{bulk[0]['Id']}-1", f"job-{named.json()['Id']}-1"])


def test_another_address_is_another_request(submitter: Client) -> None:
    sent = {"Idempotency-Key": "one", "Prefer": "respond-async"}
    first = post(submitter, INFER, BODY, **sent, **{"X-Inference-Webhook": "https://one.example/"})
    again = post(submitter, INFER, BODY, **sent, **{"X-Inference-Webhook": "https://one.example/"})
    assert first.json() == again.json()
    other = post(submitter, INFER, BODY, **sent, **{"X-Inference-Webhook": "https://two.example/"})
    problem(other, 422, "idempotency-mismatch")
    problem(post(submitter, INFER, BODY, **sent), 422, "idempotency-mismatch")


@pytest.mark.parametrize("how", ["failed", "dead_lettered", "cancelled", "expired"])
def test_every_end_is_told(team: Team, submitter: Client, receiver: Receiver, how: str) -> None:
    register(submitter, receiver.url)
    job = rows.make_job(team)
    if how == "cancelled":
        assert job_cancel(job_id=job.id)
    elif how == "expired":
        Job.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        assert expire() == 1
    else:
        code = ErrorCode.BAD_DATA if how == "failed" else ErrorCode.LEASE_EXPIRED
        while not Job.objects.get(id=job.id).is_final:
            Job.objects.update(not_before=None)
            take()
            job.refresh_from_db()
            assert record_result(rows.result(failure(job, code))) == 1
    deliver()
    (call,) = receiver.calls
    event = json.loads(call.body)
    assert event["type"] == f"inference.job.{how}"
    assert "outputs" not in event["data"]


def test_what_is_rolled_back_is_told_to_nobody(team: Team, submitter: Client, receiver: Receiver) -> None:
    register(submitter, receiver.url)
    job = rows.make_sent(team)
    with transaction.atomic():
        record_result(rows.result(success(job)))
        assert Delivery.objects.count() == 1
        transaction.set_rollback(True)
    assert (Delivery.objects.count(), Job.objects.get(id=job.id).state) == (0, "queued")


def test_a_result_that_comes_twice_is_delivered_once(team: Team, submitter: Client, receiver: Receiver) -> None:
    register(submitter, receiver.url)
    job = rows.make_sent(team)
    for _ in range(3):
        record_result(rows.result(success(job)))
    deliver()
    assert receiver.ids == [f"job-{job.id}-1"]


def test_a_job_that_is_run_again_ends_again(team: Team, submitter: Client, receiver: Receiver) -> None:
    register(submitter, receiver.url)
    job = submit(submitter)
    take()
    job.refresh_from_db()
    record_result(rows.result(failure(job, ErrorCode.MODEL_ERROR)))
    deliver()
    assert post(submitter, f"/api/jobs/{job.id}/rerun/").status_code == 202
    assert work() == 1
    deliver()
    assert receiver.ids == [f"job-{job.id}-1", f"job-{job.id}-2"]


def test_an_endpoint_hears_of_its_own_team_and_of_what_it_wants(team: Team, receiver: Receiver) -> None:
    sender = client(team)
    register(sender, receiver.url + "/all")
    register(sender, receiver.url + "/failed", events=["inference.job.failed"])
    register(sender, receiver.url + "/jobs", events=["inference.job.*"])
    register(sender, receiver.url + "/off", enabled=False)
    register(client(rows.make_team("others")), receiver.url + "/others")
    record_result(rows.result(success(rows.make_sent(team))))
    tell(make_batch(team), Kind.AT_RISK, "late")
    deliver()
    heard = sorted((call.path, json.loads(call.body)["type"]) for call in receiver.calls)
    assert heard == [
        ("/hook/all", "inference.batch.at_risk"),
        ("/hook/all", "inference.job.succeeded"),
        ("/hook/jobs", "inference.job.succeeded"),
    ]


def test_a_failure_is_tried_again_and_then_delivered(submitter: Client, receiver: Receiver) -> None:
    receiver.status, receiver.body = 503, b"later"
    job = submit(submitter, receiver.url)
    work()
    deliver()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.tries, delivery.status) == (State.RETRYING, 1, 503)
    assert 3 <= (delivery.due_at - timezone.now()).total_seconds() <= 6.1
    assert Job.objects.get(id=job.id).state == "succeeded"
    receiver.status = 200
    due_now()
    deliver()
    shown = submitter.get(f"/api/deliveries/{delivery.id}/").json()
    assert [(each["number"], each["status"], each["excerpt"]) for each in shown["attempts"]] == [
        (1, 503, "later"),
        (2, 200, "later"),
    ]
    assert shown["state"] == "delivered"
    assert receiver.ids == [f"job-{job.id}-1"] * 2


def test_retry_after_is_honoured(submitter: Client, receiver: Receiver) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": "600"}
    submit(submitter, receiver.url)
    work()
    deliver()
    assert (Delivery.objects.get().due_at - timezone.now()).total_seconds() > 590


def test_after_three_days_it_is_given_up_and_the_endpoint_says_so(submitter: Client, receiver: Receiver) -> None:
    receiver.status = 500
    webhook = register(submitter, receiver.url)
    submit(submitter)
    work()
    deliver()
    Delivery.objects.update(begun_at=timezone.now() - timedelta(days=3))
    due_now()
    deliver()
    assert states() == ["failed"]
    shown = submitter.get(f"{WEBHOOKS}{webhook['id']}/").json()
    assert shown["enabled"] is False and "three days" in shown["disabled_reason"]


def test_410_turns_the_endpoint_off_and_stops_what_waits(submitter: Client, receiver: Receiver) -> None:
    receiver.status = 410
    webhook = register(submitter, receiver.url)
    jobs = [submit(submitter) for _ in range(2)]
    assert work() == 2
    first = Delivery.objects.order_by("created_at").first()
    assert first is not None
    Delivery.objects.exclude(id=first.id).update(due_at=timezone.now() + timedelta(hours=1))
    deliver()
    assert sorted(states()) == ["disabled", "failed"]
    shown = submitter.get(f"{WEBHOOKS}{webhook['id']}/").json()
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "it answered 410 Gone")
    problem(post(submitter, f"/api/deliveries/{first.id}/redeliver/"), 409, "conflict")
    # Turned on again it gets what somebody sends again.
    receiver.status = 200
    assert send(submitter, "PATCH", f"{WEBHOOKS}{webhook['id']}/", {"enabled": True}).json()["disabled_reason"] == ""
    for delivery in Delivery.objects.all():
        assert post(submitter, f"/api/deliveries/{delivery.id}/redeliver/").status_code == 202
    deliver()
    assert states() == ["delivered", "delivered"]
    assert {f"job-{job.id}-1" for job in jobs} == set(receiver.ids)


def test_410_of_an_address_that_a_request_names_ends_only_that(submitter: Client, receiver: Receiver) -> None:
    receiver.status = 410
    submit(submitter, receiver.url)
    work()
    deliver()
    assert states() == ["failed"]


def test_redelivery_makes_no_new_inference(submitter: Client, receiver: Receiver) -> None:
    job = submit(submitter, receiver.url)
    work()
    delivery = Delivery.objects.get()
    problem(post(submitter, f"/api/deliveries/{delivery.id}/redeliver/"), 409, "conflict")
    deliver()
    before = rows.whole(job.id)
    answer = post(submitter, f"/api/deliveries/{delivery.id}/redeliver/")
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    deliver()
    assert receiver.ids == [f"job-{job.id}-1"] * 2
    assert receiver.calls[0].body == receiver.calls[1].body
    assert rows.whole(job.id) == before
    assert DeliveryAttempt.objects.count() == 2


def test_fire_and_forget_keeps_its_result_until_it_is_delivered(submitter: Client, receiver: Receiver) -> None:
    receiver.status = 500
    job = submit(submitter, receiver.url, **PROXY)
    register(submitter, receiver.url + "/too")
    work()
    row = rows.whole(job.id)
    assert row["input"] == b"" and row["result"]
    problem(submitter.get(f"/result/wine/{job.id}"), 410, "result-not-kept")
    deliver()
    assert rows.whole(job.id)["result"]
    receiver.status = 200
    first = Delivery.objects.order_by("created_at").first()
    assert first is not None
    Delivery.objects.filter(id=first.id).update(due_at=timezone.now())
    Host.objects.all().delete()
    deliver()
    assert rows.whole(job.id)["result"]
    due_now()
    deliver()
    assert states() == ["delivered", "delivered"]
    assert rows.whole(job.id)["result"] is None
    assert all(b'"outputs":[{' in call.body for call in receiver.calls)
    problem(post(submitter, f"/api/deliveries/{first.id}/redeliver/"), 409, "conflict")


def test_a_large_result_is_fetched_instead(submitter: Client, receiver: Receiver, settings: Any) -> None:
    settings.WEBHOOK_RESULT_BYTES = 10
    job = submit(submitter, receiver.url)
    work()
    deliver()
    data = json.loads(receiver.calls[0].body)["data"]
    assert (data["outputs"], data["result_path"]) == (None, f"/result/wine/{job.id}")


def test_while_rotating_both_keys_sign(submitter: Client, receiver: Receiver) -> None:
    made = register(submitter, receiver.url)
    rotated = post(submitter, f"{WEBHOOKS}{made['id']}/rotate/").json()
    assert rotated["secret"] != made["secret"] and rotated["old_secret_until"]
    submit(submitter)
    work()
    deliver()
    (call,) = receiver.calls
    assert len(call.headers["webhook-signature"].split(" ")) == 2
    for secret in (made["secret"], rotated["secret"]):
        Webhook(secret).verify(call.body, call.headers)
        # And by hand, as docs/webhooks.md has it.
        signed = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert f"v1,{signature}" in call.headers["webhook-signature"].split(" ")
    Endpoint.objects.update(old_secret_until=timezone.now())
    submit(submitter)
    work()
    deliver()
    assert len(receiver.calls[1].headers["webhook-signature"].split(" ")) == 1


def test_a_key_is_shown_once(submitter: Client, receiver: Receiver) -> None:
    made = register(submitter, receiver.url)
    assert made["secret"].startswith("whsec_")
    assert "secret" not in submitter.get(f"{WEBHOOKS}{made['id']}/").json()
    assert made["secret"] not in submitter.get(WEBHOOKS).content.decode()
    problem(client(rows.make_team(), Role.VIEWER).get(f"{WEBHOOKS}secret/"), 403, "forbidden")


def test_a_test_goes_the_way_of_all_others(submitter: Client, receiver: Receiver) -> None:
    made = register(submitter, receiver.url, events=["inference.job.failed"])
    answer = post(submitter, f"{WEBHOOKS}{made['id']}/test/")
    assert (answer.status_code, answer.json()["event_type"]) == (202, "inference.webhook.test")
    deliver()
    event = Webhook(made["secret"]).verify(receiver.calls[0].body, receiver.calls[0].headers)
    assert event["data"] == {"endpoint": made["id"]}
    assert submitter.get(f"/api/deliveries/{answer.json()['id']}/").json()["state"] == "delivered"
    assert submitter.get(f"{WEBHOOKS}{made['id']}/").json()["succeeded_at"]


def test_what_was_on_its_way_to_a_removed_endpoint_is_not_sent(submitter: Client, receiver: Receiver) -> None:
    made = register(submitter, receiver.url)
    submit(submitter)
    work()
    assert send(submitter, "DELETE", f"{WEBHOOKS}{made['id']}/").status_code == 204
    deliver()
    assert (states(), receiver.calls) == (["disabled"], [])
    delivery = Delivery.objects.get()
    assert delivery.endpoint is None
    problem(post(submitter, f"/api/deliveries/{delivery.id}/redeliver/"), 409, "conflict")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": 5}, "/url"),
        ({"url": "ftp://example.org"}, "/url"),
        ({"url": "http://169.254.169.254/latest"}, "/url"),
        ({"url": "https://example.org", "events": "all"}, "/events"),
        ({"url": "https://example.org", "events": ["inference.job.succeeded", "nothing"]}, "/events/1"),
        ({"url": "https://example.org", "enabled": "yes"}, "/enabled"),
        ({"url": "https://example.org", "secret": "mine"}, "/secret"),
    ],
)
def test_a_wrong_endpoint_is_refused_with_the_field(submitter: Client, body: Any, pointer: str) -> None:
    faults = problem(post(submitter, WEBHOOKS, body), 422, "invalid-input")["errors"]
    assert pointer in [fault["pointer"] for fault in faults]
    assert not Endpoint.objects.exists()


def test_a_wrong_address_of_a_request_is_refused(submitter: Client) -> None:
    refused = post(submitter, INFER, BODY, **{"X-Inference-Webhook": "http://10.0.0.1/"})
    assert "X-Inference-Webhook" in problem(refused, 400, "malformed")["detail"]
    body = problem(post(submitter, "/api/jobs/", {**JOB, "webhook": "http://10.0.0.1/"}), 422, "invalid-input")
    assert [fault["pointer"] for fault in body["errors"]] == ["/webhook"]


def test_a_receiver_that_is_down_is_left_alone_and_holds_up_no_other(team: Team, receiver: Receiver) -> None:
    dead = "http://127.0.0.1:9/"
    for _ in range(30):
        record_result(rows.result(success(rows.make_sent(team, webhook=dead))))
    record_result(rows.result(success(rows.make_sent(team, webhook=receiver.url))))
    deliver()
    assert len(receiver.calls) == 1
    host = Host.objects.get()
    assert host.failures == breaker.FAILURES and host.closed_until is not None
    tried = Delivery.objects.filter(url=dead, tries__gt=0).count()
    # Those that were under way when it was closed are tried, too.
    assert breaker.FAILURES <= tried < breaker.FAILURES + breaker.CALLS_PER_HOST
    # Once the time is over one call tries it.
    Host.objects.update(closed_until=timezone.now())
    assert len(claims.claim(50)) == 1


def test_what_waits_too_long_for_a_dead_host_is_given_up(team: Team) -> None:
    record_result(rows.result(success(rows.make_sent(team, webhook="http://127.0.0.1:9/"))))
    Delivery.objects.update(begun_at=timezone.now() - timedelta(days=4))
    assert claims.give_up_old() == 0
    Host.objects.create(name="127.0.0.1:9", failures=9, closed_until=timezone.now())
    assert claims.give_up_old() == 1
    assert states() == ["failed"]


def test_the_endpoint_of_a_host_that_is_dead_for_three_days_is_turned_off(team: Team) -> None:
    dead, heard, other = (make_endpoint(team, f"http://127.0.0.1:9/{name}") for name in ("dead", "heard", "other"))
    record_result(rows.result(success(rows.make_sent(team))))
    # Of so many each is tried once in three days, if at all: no try of theirs is the last.
    Delivery.objects.update(begun_at=timezone.now() - timedelta(days=4))
    Delivery.objects.filter(endpoint=other).update(begun_at=timezone.now())
    Host.objects.create(name="127.0.0.1:9", failures=9, closed_until=timezone.now())
    Endpoint.objects.filter(id=heard.id).update(succeeded_at=timezone.now())
    assert claims.give_up_old() == 2
    found = {each.id: (each.enabled, each.disabled_reason) for each in Endpoint.objects.all()}
    assert found == {
        dead.id: (False, "the receiver answered nobody for three days"),
        heard.id: (True, ""),
        other.id: (True, ""),
    }


def test_what_a_lost_courier_had_in_hand_comes_back(submitter: Client, receiver: Receiver) -> None:
    submit(submitter, receiver.url)
    work()
    (claimed,) = claims.claim(10)
    assert claims.claim(10) == [] and claims.bring_back() == 0
    Delivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert claims.bring_back() == 1
    # The lost one was only slow: what it says now counts no more.
    assert not outcomes.record(claimed, Answer(status=200))
    due_now()
    deliver()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.tries) == (State.DELIVERED, 2)
    first, second = delivery.attempts.all()
    assert "lost" in first.error and second.status == 204


def test_who_ends_every_courier_is_tried_ever_less_often_and_given_up(submitter: Client, receiver: Receiver) -> None:
    submit(submitter, receiver.url)
    work()

    def loses_it() -> Delivery:
        Delivery.objects.update(due_at=timezone.now())
        (claimed,) = claims.claim(10)
        Delivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        assert claims.bring_back() == 1
        assert not outcomes.lost(claimed)
        return Delivery.objects.get()

    first, second = loses_it(), loses_it()
    assert first.due_at is not None and second.due_at is not None
    assert second.due_at - timezone.now() > timedelta(seconds=20) > first.due_at - timezone.now()
    assert not Host.objects.exists()
    Delivery.objects.update(begun_at=timezone.now() - timedelta(days=3))
    assert loses_it().state == State.FAILED
    assert Delivery.objects.get().attempts.count() == 3


def test_one_that_cannot_be_sent_or_written_down_holds_up_no_other(
    submitter: Client, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [submit(submitter, receiver.url) for _ in range(4)]
    assert work() == 4
    unsent, unwritten, *others = (f"job-{job.id}-1" for job in jobs)

    def breaking(real: Callable[..., Any], bad: str) -> Callable[..., Any]:
        def call(delivery: Delivery, *rest: Any) -> Any:
            if delivery.event_id == bad:
                raise TypeError("nobody expected that")
            return real(delivery, *rest)

        return call

    monkeypatch.setattr(courier, "letter", breaking(courier.letter, unsent))
    monkeypatch.setattr(outcomes, "record", breaking(outcomes.record, unwritten))
    deliver()
    assert sorted(receiver.ids) == sorted([unwritten, *others])
    delivered = Delivery.objects.filter(state=State.DELIVERED).values_list("event_id", flat=True)
    assert sorted(delivered) == sorted(others)
    monkeypatch.undo()
    Delivery.objects.filter(state=State.DELIVERING).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert claims.bring_back() == 2
    due_now()
    deliver()
    assert set(states()) == {"delivered"}


def test_a_dns_that_says_nothing_holds_up_no_other(
    team: Team, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        if host.endswith(".example") and not more.get("flags"):
            go_on.wait(30)
            raise socket.gaierror("no answer")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for number in range(40):
        record_result(rows.result(success(rows.make_sent(team, webhook=f"http://silent{number % 5}.example/"))))
    record_result(rows.result(success(rows.make_sent(team, webhook=receiver.url))))
    with at_work() as working:
        try:
            wait_for(lambda: not working.step() or receiver.calls, 10, lambda: str(states()))
        finally:
            go_on.set()
        while working.step():
            pass
    assert len(receiver.calls) == 1
    assert Delivery.objects.get(url=receiver.url).state == State.DELIVERED


def test_what_failed_at_an_endpoint_that_has_moved_since_is_not_sent_there(
    submitter: Client, receiver: Receiver
) -> None:
    webhook = register(submitter, receiver.url)
    submit(submitter)
    work()
    (claimed,) = claims.claim(10)
    with receiving() as other:
        moved = send(submitter, "PATCH", f"{WEBHOOKS}{webhook['id']}/", {"url": other.url})
        assert moved.status_code == 200
        assert outcomes.record(claimed, Answer(status=503))
        due_now()
        deliver()
        assert (states(), receiver.calls, other.calls) == (["disabled"], [], [])
        delivery = Delivery.objects.get()
        assert post(submitter, f"/api/deliveries/{delivery.id}/redeliver/").status_code == 202
        deliver()
        assert (states(), receiver.calls, len(other.calls)) == (["delivered"], [], 1)


def test_a_job_that_ends_just_while_its_endpoint_is_removed_ends_all_the_same(team: Team) -> None:
    # As if the endpoint had been read before it was removed, and the delivery stored after that.
    endpoint = Endpoint(team=team, submitted_by="test", url="https://receiver.example/")
    ledger.deliver_to(endpoint, events.of_test(uuid4(), endpoint.id, team.name, timezone.now()))
    deliver()
    assert states() == ["disabled"]


def test_deliveries_of_another_team_are_unknown(submitter: Client, receiver: Receiver) -> None:
    made = register(submitter, receiver.url)
    submit(submitter)
    work()
    delivery = Delivery.objects.get()
    other = client(rows.make_team("others"))
    assert other.get("/api/deliveries/").json()["results"] == []
    problem(other.get(f"/api/deliveries/{delivery.id}/"), 404, "not-found")
    problem(post(other, f"/api/deliveries/{delivery.id}/redeliver/"), 404, "not-found")
    for path in ("", "test/", "rotate/"):
        problem(
            post(other, f"{WEBHOOKS}{made['id']}/{path}"),
            404 if path else 405,
            "not-found" if path else "method-not-allowed",
        )
    listed = submitter.get("/api/deliveries/?state=pending&event_type=inference.job.succeeded").json()["results"]
    assert [each["id"] for each in listed] == [str(delivery.id)]
    problem(submitter.get("/api/deliveries/?colour=red"), 422, "invalid-input")
