"""Release, rollback, retire: what each does to the traffic, when each is refused, and what is kept of it."""

import math
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role, Team
from inference_portal.catalog import golden, releases, traffic
from inference_portal.catalog.models import Action, ReleaseEvent, Traffic
from inference_portal.catalog.refusals import GoldenMismatch, GoldenMissing, GoldenUnanswered, ReleaseConflict
from inference_portal.jobs.models import AuditEntry, Job
from inference_portal.jobs.pool import let_go
from inference_portal.jobs.states import State
from inference_portal.store import model_store
from tests.integration.rows import in_threads
from tests.integration.versions import add, spoil, versions
from tests.integration.work import at_work, work
from workers.formats import Invalid
from workers.model_store import UnknownModel

pytestmark = pytest.mark.django_db
KEYS = [str(uuid4()) for _ in range(2_000)]


@pytest.fixture
def m(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> Iterator[Path]:
    """Four versions that nobody has released anything of."""
    with versions(monkeypatch, settings, tmp_path, "1", "2", "3", "4") as folder:
        yield folder


@pytest.fixture
def me(team: Team) -> Caller:
    return Caller(team.pk, Role.OPERATOR, "ada")


def split(model: str = "m") -> dict[str, float]:
    return {part.version: round(part.weight, 6) for part in traffic.read().split(model)}


def release(me: Caller, version: str, **fields: Any) -> ReleaseEvent:
    return releases.release(model="m", version=version, caller=me, **fields)


# What takes the traffic


def test_a_model_that_nobody_has_released_anything_of_serves_its_first_version(m: Path, me: Caller) -> None:
    assert split() == {"1": 100}
    assert traffic.choose("m").manifest.version == "1"
    # Also when a later one is there that is larger as text.
    add(m.parent, "10")
    assert split() == {"1": 100}
    assert traffic.choose("m", key="x").manifest.version == "1"


def test_a_release_takes_all_or_its_weight_and_the_others_share_the_rest_in_their_proportion(
    m: Path, me: Caller
) -> None:
    release(me, "2", weight=20)
    assert split() == {"1": 80, "2": 20}
    release(me, "3", weight=50)
    assert split() == {"1": 40, "2": 10, "3": 50}
    # Its weight is what it has then, not more of it.
    release(me, "2", weight=40)
    assert split() == {"1": pytest.approx(60 * 40 / 90), "2": 40, "3": pytest.approx(60 * 50 / 90)}
    release(me, "4")
    assert split() == {"4": 100}
    release(me, "1", weight=1)
    assert split() == {"1": 1, "4": 99}


def test_requests_fall_to_versions_by_weight_and_the_same_key_always_to_the_same(m: Path, me: Caller) -> None:
    release(me, "2", weight=20)
    before = {key: traffic.choose("m", key=key).manifest.version for key in KEYS}
    share = Counter(before.values())["2"] / len(KEYS)
    # Four standard deviations.
    assert abs(share - 0.2) < 4 * math.sqrt(0.2 * 0.8 / len(KEYS))
    assert before == {key: traffic.choose("m", key=key).manifest.version for key in KEYS}
    release(me, "2", weight=50)
    after = {key: traffic.choose("m", key=key).manifest.version for key in KEYS}
    moved = [key for key in KEYS if before[key] != after[key]]
    # No more than the weight says, and all in its direction.
    assert {before[key] for key in moved} == {"1"} and abs(len(moved) / len(KEYS) - 0.3) < 0.05
    # What knows no key gets the larger part; of equal ones the newer.
    assert traffic.choose("m").manifest.version == "2"


def test_a_pin_overrides_the_weights(m: Path, me: Caller) -> None:
    release(me, "2")
    assert traffic.choose("m", "1", key="x").manifest.version == "1"
    with pytest.raises(UnknownModel, match="has no version '9'"):
        traffic.choose("m", "9")


def test_a_version_that_is_gone_or_changed_takes_no_traffic_and_the_others_do(m: Path, me: Caller) -> None:
    release(me, "2", weight=50)
    add(m.parent, "2", columns=[{"name": "a"}, {"name": "b"}, {"name": "other"}])
    assert split() == {"1": 100}
    assert traffic.read().problems("m") == [
        "Version 2 takes no traffic: its model file isn't the one that was released"
    ]
    shutil.rmtree(m / "1")
    model_store.cache_clear()
    assert split() == {}
    traffic.forget()
    with pytest.raises(UnknownModel, match="Version 1 takes no traffic: the store lacks it; Version 2"):
        traffic.choose("m", key="x")
    # What is proved anew takes it all.
    release(me, "2")
    assert split() == {"2": 100}


def test_the_split_costs_no_query_and_is_never_older_than_a_second(
    m: Path, me: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic.choose("m", key="x")
    with CaptureQueriesContext(connection) as queries:
        for key in KEYS:
            traffic.choose("m", key=key)
    assert len(queries) <= 1
    # Of another process.
    Traffic.objects.create(model="m", version="2", sha256=model_store().get("m", "2").manifest.sha256, weight=100)
    clock = traffic.time.monotonic()
    monkeypatch.setattr(traffic.time, "monotonic", lambda: clock + 1.0)
    assert traffic.choose("m", key="x").manifest.version == "2"


def test_nobody_waits_for_the_thread_that_reads_the_split(m: Path, me: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    table, begun, go_on = traffic.current(), threading.Event(), threading.Event()

    def slow() -> traffic.Table:
        begun.set()
        assert go_on.wait(10)
        return table

    monkeypatch.setattr(traffic, "read", slow)
    monkeypatch.setattr(traffic, "KEPT_SECONDS", 0.0)
    reader = threading.Thread(target=traffic.current)
    reader.start()
    assert begun.wait(10)
    assert traffic.current() is table
    go_on.set()
    reader.join(10)


# The proof


def test_a_release_is_proved_by_a_job_that_a_worker_has_answered_and_the_proof_is_kept(m: Path, me: Caller) -> None:
    event = release(me, "2", weight=25, reason=" a better one ")
    job = Job.objects.get()
    assert (job.state, job.version, job.priority, job.team_id) == (State.SUCCEEDED, "2", 0, me.team_id)
    assert (job.submitted_by, "golden-check" in job.labels, job.expires_at is not None) == ("ada", True, True)
    sha256 = model_store().get("m", "2").manifest.sha256
    stored = ReleaseEvent.objects.get()
    assert stored == event
    assert (stored.who, stored.action, stored.reason) == ("ada", Action.RELEASE, "a better one")
    assert (stored.version, stored.sha256, stored.template) == ("2", sha256, 2)
    assert stored.golden == {"job": str(job.id), "rows": 4}
    assert [(part["version"], part["weight"]) for part in stored.before] == [("1", 100)]
    assert [(part["version"], part["weight"]) for part in stored.after] == [("1", 75), ("2", 25)]


def test_a_wrong_version_is_refused_with_its_differences_and_nothing_changes(m: Path, me: Caller) -> None:
    spoil(m / "2")
    with pytest.raises(GoldenMismatch) as refusal:
        release(me, "2")
    assert [(each.row, each.output) for each in refusal.value.differences] == [(1, "probability"), (3, "probability")]
    first = refusal.value.differences[0]
    assert first.expected - first.got == pytest.approx(0.25, abs=1e-5)
    assert split() == {"1": 100}
    assert not ReleaseEvent.objects.exists() and not Traffic.objects.exists()
    # The job that showed it is over, and waits for nobody.
    assert Job.objects.get().state in (State.CANCELLED, State.DEAD_LETTERED)
    assert not Job.objects.dead_letters().exists()


def test_what_a_worker_has_loaded_before_its_samples_were_changed_is_compared_as_well(m: Path, me: Caller) -> None:
    release(me, "2", weight=50)
    spoil(m / "2")
    with pytest.raises(GoldenMismatch) as refusal:
        release(me, "2")
    assert [each.row for each in refusal.value.differences] == [1, 3]
    assert Job.objects.latest("accepted_at").state == State.SUCCEEDED
    assert split() == {"1": 50, "2": 50}


def test_without_samples_that_can_be_read_there_is_no_release(m: Path, me: Caller) -> None:
    add(m.parent, "2", golden=...)
    with pytest.raises(GoldenMissing, match="names no golden samples"):
        release(me, "2")
    (m / "3" / "golden.json").write_text('{"inputs": [[1, 2]], "raw": [[0.5]]}')
    with pytest.raises(GoldenMissing, match="expected a list of 3 values"):
        release(me, "3")
    (m / "4" / "golden.json").unlink()
    with pytest.raises(GoldenMissing, match=r"golden\.json: No such file"):
        release(me, "4")
    assert not Job.objects.exists()


def test_without_a_worker_the_release_is_refused_in_time_and_leaves_nothing_to_run(
    m: Path, me: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "SECONDS", 0.3)
    monkeypatch.setattr(golden, "let_go", lambda: None)
    with pytest.raises(GoldenUnanswered, match="no worker has taken them"):
        releases.release(model="m", version="2", caller=me)
    assert Job.objects.get().state == State.CANCELLED
    assert split() == {"1": 100}


def test_a_worker_that_can_not_load_it_is_named_and_its_dead_letter_waits_for_nobody(
    m: Path, me: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "SECONDS", 5.0)
    kept = model_store().get("m", "3")
    monkeypatch.setattr(model_store(), "get", lambda *args: kept)
    kept.manifest.artifact.__dict__["sha256"] = "ab" * 32
    with pytest.raises(GoldenUnanswered, match="model-unavailable: m version 3: sha256 here is"):
        release(me, "3")
    assert not Job.objects.dead_letters().exists()


@pytest.mark.parametrize("weight", [0, 101, -1])
def test_a_weight_is_a_percentage(m: Path, me: Caller, weight: int) -> None:
    with pytest.raises(Invalid, match="1 to 100"):
        releases.release(model="m", version="2", caller=me, weight=weight)


def test_the_only_version_takes_all_or_nothing(m: Path, me: Caller) -> None:
    with pytest.raises(ReleaseConflict, match="release it with 100"):
        releases.release(model="m", version="1", caller=me, weight=50)
    assert not Job.objects.exists()
    release(me, "1")
    assert split() == {"1": 100}


def test_an_unknown_model_or_version_is_told(m: Path, me: Caller) -> None:
    with pytest.raises(UnknownModel, match="no model 'n'"):
        releases.release(model="n", version="1", caller=me)
    with pytest.raises(UnknownModel, match="has no version '9'"):
        releases.release(model="m", version="9", caller=me)
    with pytest.raises(UnknownModel, match="has no version '9'"):
        releases.retire(model="m", version="9", who="ada")
    with pytest.raises(UnknownModel, match="no model 'n'"):
        releases.rollback(model="n", who="ada")


def test_a_reason_that_no_database_stores_is_refused_first(m: Path, me: Caller) -> None:
    for reason in ("\0", "\ud800", "x" * 1_001):
        with pytest.raises(Invalid, match="1,000 characters"):
            releases.release(model="m", version="2", caller=me, reason=reason)
        with pytest.raises(Invalid, match="1,000 characters"):
            releases.retire(model="m", version="2", who="ada", reason=reason)
        with pytest.raises(Invalid, match="1,000 characters"):
            releases.rollback(model="m", who="ada", reason=reason)
    assert not Job.objects.exists()


# Back, and out of use


def test_a_rollback_goes_back_at_once_and_each_further_one_goes_one_release_further(m: Path, me: Caller) -> None:
    release(me, "2", weight=10)
    release(me, "3")
    jobs = Job.objects.count()
    event = releases.rollback(model="m", who="ada", reason="it is slow")
    assert split() == {"1": 90, "2": 10}
    assert (event.action, event.version, event.reason, event.golden) == (Action.ROLLBACK, "3", "it is slow", None)
    assert traffic.choose("m").manifest.version == "1"
    assert Job.objects.count() == jobs
    # What came after a rollback is taken back first, what was taken back before never again.
    release(me, "4")
    releases.rollback(model="m", who="ada")
    assert split() == {"1": 90, "2": 10}
    releases.rollback(model="m", who="ada")
    assert split() == {"1": 100}
    with pytest.raises(ReleaseConflict, match="no release of m"):
        releases.rollback(model="m", who="ada")
    done = [(event.action, event.version) for event in ReleaseEvent.objects.order_by("id")]
    assert done == [
        ("release", "2"), ("release", "3"), ("rollback", "3"), ("release", "4"), ("rollback", "4"), ("rollback", "2"),
    ]  # fmt: skip


def test_a_rollback_gives_nothing_to_what_is_retired_gone_or_changed_since(m: Path, me: Caller) -> None:
    release(me, "2", weight=50)
    release(me, "3", weight=20)
    releases.retire(model="m", version="1", who="ada")
    assert split() == {"2": pytest.approx(200 / 3), "3": pytest.approx(100 / 3)}
    releases.rollback(model="m", who="ada")
    assert split() == {"2": 100}
    with pytest.raises(ReleaseConflict, match=r"\(version 1\) is retired, gone or changed"):
        releases.rollback(model="m", who="ada")
    assert split() == {"2": 100}


def test_a_retired_version_is_unknown_until_it_is_released_again(m: Path, me: Caller) -> None:
    release(me, "2", weight=60)
    event = releases.retire(model="m", version="1", who="ada", reason="old")
    assert (event.action, event.version, event.reason) == (Action.RETIRE, "1", "old")
    assert split() == {"2": 100}
    for key in KEYS[:50]:
        assert traffic.choose("m", key=key).manifest.version == "2"
    with pytest.raises(UnknownModel, match="version '1' of model 'm' is retired"):
        traffic.choose("m", "1")
    with pytest.raises(Invalid, match="version '1' is retired"):
        traffic.refuse_retired("m", "1")
    with pytest.raises(ReleaseConflict, match="retired already"):
        releases.retire(model="m", version="1", who="ada")
    release(me, "1", weight=30)
    assert split() == {"1": 30, "2": 70}
    assert traffic.choose("m", "1").manifest.version == "1"


def test_the_last_version_with_traffic_is_not_retired(m: Path, me: Caller) -> None:
    with pytest.raises(ReleaseConflict, match="takes all the traffic"):
        releases.retire(model="m", version="1", who="ada")
    # One that nobody has released may be.
    releases.retire(model="m", version="2", who="ada")
    assert split() == {"1": 100}
    release(me, "3")
    with pytest.raises(ReleaseConflict, match="takes all the traffic"):
        releases.retire(model="m", version="3", who="ada")


@pytest.mark.django_db(transaction=True)
def test_releases_of_one_model_at_once_follow_one_another(m: Path, me: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "let_go", let_go)
    with at_work():
        in_threads(
            *(
                lambda version=version: releases.release(model="m", version=version, caller=me, weight=50)  # type: ignore[misc]
                for version in ("2", "3", "4")
            )
        )
    events = list(ReleaseEvent.objects.order_by("id"))
    assert [part["weight"] for part in events[0].before] == [100]
    for earlier, later in zip(events, events[1:], strict=False):
        assert later.before == sorted(earlier.after, key=lambda part: int(part["version"]))
    assert sum(row.weight for row in Traffic.objects.all()) == pytest.approx(100)
    assert sorted(split().values()) == [12.5, 12.5, 25, 50]


def test_jobs_keep_the_version_that_they_were_accepted_for(m: Path, me: Caller, team: Team, submitter: Any) -> None:
    body = {"model": "m", "rows": [[0.1, 0.2, 0.3]]}
    first = submitter.post("/api/jobs/", body, content_type="application/json").json()["Id"]
    release(me, "2")
    releases.retire(model="m", version="1", who="ada")
    second = submitter.post("/api/jobs/", body, content_type="application/json").json()["Id"]
    work()
    for job_id, version in ((first, "1"), (second, "2")):
        assert submitter.get(f"/result/m/{job_id}").status_code == 200
        assert Job.objects.get(id=job_id).version == version
    assert not AuditEntry.objects.exists()
