"""The checker finds each kind of broken promise on made-up rows, and nothing where all is well."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from uuid import UUID, uuid4

import numpy as np
import pytest

from tests.chaos import ledger, samples
from tests.chaos.asks import MIX, Kind, mixed
from tests.chaos.checker import AttemptRow, Evidence, JobRow, violations
from tests.chaos.effects import Effect
from tests.chaos.ledger import Change, Entry
from tests.chaos.monkey import Blow, plan
from tests.chaos.recovery import recovery, spread

FIRST, SECOND, UNNOTED = (UUID(int=n) for n in (1, 2, 3))


def expected(model: str, first: int, rows: int) -> dict[str, object]:
    probability = (np.arange(first, first + rows, dtype=np.float32) / np.float32(3)).astype(np.float32)
    return {"probability": probability, "label": ["x"] * rows}


def result(first: int, rows: int) -> bytes:
    """Return what a worker stores for these samples."""
    values = [float(str(value)) for value in expected("wine", first, rows)["probability"]]
    tensors = [
        {"name": "probability", "datatype": "FP32", "shape": [rows], "data": values},
        {"name": "label", "datatype": "BYTES", "shape": [rows], "data": ["x"] * rows},
    ]
    return json.dumps(tensors).encode()


def row(job: UUID, state: str = "succeeded", **fields: object) -> JobRow:
    stored = result(int(job) * 10, 2) if state == "succeeded" else None
    return JobRow(**{"id": job, "model": "wine", "state": state, "attempt": 1, "result": stored} | fields)  # type: ignore[arg-type]


def effect(job: UUID, written: float = 0.0) -> Effect:
    return Effect(job, 1, "queued", "succeeded", written)


@pytest.fixture
def clean() -> Evidence:
    """Two noted jobs that have succeeded, one of them in its second attempt, and one whose client got no answer."""
    jobs = (FIRST, SECOND, UNNOTED)
    return Evidence(
        entries=[Entry(job, "wine", int(job) * 10, 2, 0.0) for job in (FIRST, SECOND)],
        jobs={job: row(job) for job in jobs},
        effects=[effect(job) for job in jobs],
        attempts=[AttemptRow(SECOND, 1, "worker-lost")],
        queues={"inference.cpu": 0, "inference.dead": 0},
    )


def with_entry(evidence: Evidence, **fields: object) -> Evidence:
    """Change what the ledger says of the first job."""
    first, *others = evidence.entries
    return replace(evidence, entries=[replace(first, **fields), *others])


def cancelled(evidence: Evidence) -> Evidence:
    """Let the first job be cancelled, as its client was told."""
    changed = with_row(with_entry(evidence, may_end=("cancelled",)), row(FIRST, "cancelled"))
    return replace(changed, effects=[Effect(FIRST, 1, "queued", "cancelled", 0.0), *changed.effects[1:]])


def rerun(evidence: Evidence) -> Evidence:
    """Let the first job be cancelled, then run again to its end."""
    effects = [
        Effect(FIRST, 1, "queued", "cancelled", 0.0),
        Effect(FIRST, 2, "cancelled", "queued", 1.0),
        Effect(FIRST, 2, "queued", "succeeded", 2.0),
    ]
    return replace(with_entry(evidence, reruns=1), effects=[*effects, *evidence.effects[1:]])


def expired(evidence: Evidence) -> Evidence:
    """Let the first job expire ten seconds after it was asked for."""
    changed = with_row(with_entry(evidence, ttl=10, may_end=("succeeded", "expired")), row(FIRST, "expired"))
    return replace(changed, effects=[Effect(FIRST, 1, "queued", "expired", 10.0), *changed.effects[1:]])


def forgotten(evidence: Evidence) -> Evidence:
    """Let the first job be fire and forget."""
    return with_row(with_entry(evidence, keeps_result=False), row(FIRST, result=None))


def ordered(evidence: Evidence) -> Evidence:
    """Let both jobs have one ordering key, the second be asked for when the first was accepted."""
    first, second = (replace(entry, order="north") for entry in evidence.entries)
    return replace(evidence, entries=[replace(first, accepted=1.0), replace(second, time=2.0, accepted=3.0)])


def repeated(evidence: Evidence) -> Evidence:
    """Let the first job be asked for twice, under one name."""
    named = with_entry(evidence, name="mine")
    return replace(named, entries=[*named.entries, named.entries[0]])


ALLOWED = (cancelled, rerun, expired, forgotten, ordered, repeated)


def with_row(evidence: Evidence, job: JobRow) -> Evidence:
    return replace(evidence, jobs=evidence.jobs | {job.id: job})


BROKEN: dict[str, Callable[[Evidence], Evidence]] = {
    "lost: job": lambda e: replace(
        e, jobs={k: v for k, v in e.jobs.items() if k != FIRST}, effects=[effect(SECOND), effect(UNNOTED)]
    ),
    "stuck: job": lambda e: replace(with_row(e, row(FIRST, "running")), effects=[effect(SECOND), effect(UNNOTED)]),
    "(its client never got the 202)": lambda e: replace(
        with_row(e, row(UNNOTED, "retrying")), effects=[effect(FIRST), effect(SECOND)]
    ),
    "applied twice: job": lambda e: replace(e, effects=[*e.effects, effect(FIRST, 1.0)]),
    "accepted twice": lambda e: replace(e, entries=[*e.entries, e.entries[0]]),
    "unseen: job": lambda e: replace(e, effects=e.effects[1:]),
    "accepted twice: 2 jobs have the name mine": lambda e: replace(
        e, entries=[replace(entry, name="mine") for entry in e.entries]
    ),
    "accepted twice: 2 jobs have the name theirs": lambda e: with_row(
        with_row(e, row(FIRST, idempotency_key="theirs")), row(UNNOTED, idempotency_key="theirs")
    ),
    "accepted twice: 3 requests were answered": lambda e: replace(
        repeated(e), entries=[*repeated(e).entries, replace(e.entries[0], name="another")]
    ),
    "is succeeded (), not cancelled": lambda e: with_entry(e, may_end=("cancelled",)),
    "is cancelled (), not succeeded": lambda e: replace(with_entry(cancelled(e), may_end=("succeeded",))),
    "is expired (), not succeeded; ": lambda e: replace(
        with_row(e, row(SECOND, "expired")), effects=[e.effects[0], effect(SECOND), e.effects[2]]
    ),
    "has 2 final effects: attempt 1 queued to cancelled": lambda e: replace(
        cancelled(e), effects=[*cancelled(e).effects, Effect(FIRST, 1, "cancelled", "cancelled", 1.0)]
    ),
    "has 3 final effects": lambda e: replace(rerun(e), effects=[*rerun(e).effects, effect(FIRST, 3.0)]),
    "has 2 final effects: attempt 1 queued to cancelled at 0.000, attempt 2": lambda e: replace(
        rerun(e), effects=[*rerun(e).effects[:2], Effect(FIRST, 1, "queued", "succeeded", 2.0), *e.effects[1:]]
    ),
    "opened again: job": lambda e: with_entry(rerun(e), reruns=0),
    "unseen: job 00000000-0000-0000-0000-000000000001 is succeeded": lambda e: replace(
        rerun(e), effects=[*rerun(e).effects[:2], *e.effects[1:]]
    ),
    "expired 0.500 s before its time": lambda e: with_entry(expired(e), ttl=10.5),
    "kept: job": lambda e: with_row(forgotten(e), row(FIRST)),
    "its input is still there": lambda e: with_row(forgotten(e), row(FIRST, result=None, input_size=8)),
    "out of order: job 00000000-0000-0000-0000-000000000002 of north": lambda e: replace(
        ordered(e), effects=[effect(SECOND), effect(FIRST), effect(UNNOTED)]
    ),
    "unexpected end: job": lambda e: with_row(e, row(FIRST, "dead_lettered")),
    "is failed (too bad), not succeeded; failed attempts: 1 worker-lost": lambda e: with_row(
        e, row(SECOND, "failed", error="too bad")
    ),
    "its row says breast_cancer": lambda e: with_row(e, row(FIRST, model="breast_cancer")),
    "left over: 3 messages in the queue inference.dead": lambda e: replace(e, queues=e.queues | {"inference.dead": 3}),
    "left over: the queue inference.cpu is gone": lambda e: replace(e, queues=e.queues | {"inference.cpu": -1}),
    "parked: 1 unreadable": lambda e: replace(e, parked=1),
    "lease: a message was lost": lambda e: replace(e, attempts=[AttemptRow(FIRST, 1, "lease-expired")]),
}


def test_a_clean_state_has_no_violations(clean: Evidence) -> None:
    assert violations(clean, expected, broker_alone=True) == []


@pytest.mark.parametrize("told", ALLOWED)
def test_what_a_client_has_asked_for_may_happen(clean: Evidence, told: Callable[[Evidence], Evidence]) -> None:
    assert violations(told(clean), expected, broker_alone=True) == []


@pytest.mark.parametrize("line", BROKEN)
def test_each_broken_promise_is_found(clean: Evidence, line: str) -> None:
    (found,) = violations(BROKEN[line](clean), expected, broker_alone=True)
    assert line in found


def test_a_lease_may_end_where_it_is_the_way_back(clean: Evidence) -> None:
    assert violations(replace(clean, attempts=[AttemptRow(FIRST, 1, "lease-expired")]), expected) == []


def test_jobs_of_one_key_that_were_asked_for_at_once_may_end_in_any_order(clean: Evidence) -> None:
    first, second = ordered(clean).entries
    together = replace(clean, entries=[first, replace(second, time=0.5)])
    assert violations(replace(together, effects=[effect(job) for job in (SECOND, FIRST, UNNOTED)]), expected) == []


def test_a_job_with_a_time_to_live_whose_client_got_no_answer_may_expire(clean: Evidence) -> None:
    effects = [*clean.effects[:2], Effect(UNNOTED, 1, "queued", "expired", 0.0)]
    assert violations(replace(with_row(clean, row(UNNOTED, "expired", has_ttl=True)), effects=effects), expected) == []
    (found,) = violations(replace(with_row(clean, row(UNNOTED, "expired")), effects=effects), expected)
    assert found.startswith(f"unexpected end: job {UNNOTED} is expired")


def test_garbage_that_was_sent_may_be_parked(clean: Evidence) -> None:
    assert violations(replace(clean, parked=2), expected, parked=2) == []
    assert violations(clean, expected, parked=2) == ["parked: 0 unreadable messages are parked, 2 were sent"]


def test_poison_must_end_as_a_dead_letter(clean: Evidence) -> None:
    rows = {job: row(job, "dead_lettered") for job in clean.jobs}
    assert violations(replace(clean, jobs=rows), expected, poison=True) == []
    (found,) = violations(replace(clean, jobs=rows | {FIRST: row(FIRST)}), expected, poison=True)
    assert found.startswith(f"unexpected end: job {FIRST} is succeeded")


def _one_bit_off() -> bytes:
    tensors = json.loads(result(10, 2))
    tensors[0]["data"][0] = float(np.nextafter(np.float32(tensors[0]["data"][0]), np.float32(9)))
    return json.dumps(tensors).encode()


def _other_label() -> bytes:
    tensors = json.loads(result(10, 2))
    tensors[1]["data"][1] = "y"
    return json.dumps(tensors).encode()


def _one_more() -> bytes:
    return json.dumps(
        [*json.loads(result(10, 2)), {"name": "z", "datatype": "FP32", "shape": [0], "data": []}]
    ).encode()


def _one_less() -> bytes:
    return json.dumps(json.loads(result(10, 2))[:1]).encode()


@pytest.mark.parametrize(
    "stored",
    [
        _one_bit_off(),
        _other_label(),
        _one_more(),
        _one_less(),
        result(11, 2),
        result(10, 1),
        b"[]",
        b"",
        b"null",
        b'[{"name": "probability"}]',
    ],
)
def test_a_prediction_that_differs_in_anything_is_wrong(clean: Evidence, stored: bytes) -> None:
    (found,) = violations(with_row(clean, row(FIRST, result=stored)), expected)
    assert found.startswith(f"wrong: job {FIRST}")


def test_the_ledger_keeps_what_many_clients_note(tmp_path: Path) -> None:
    entries = [[Entry(uuid4(), "wine", n, 1, float(n)) for n in range(50)] for _ in range(4)]
    with ledger.Ledger(tmp_path / "ledger") as book:
        threads = [Thread(target=lambda mine=mine: [book.note(entry) for entry in mine]) for mine in entries]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert book.count == 200
        assert {e.id for e in ledger.read(tmp_path / "ledger")} == {e.id for mine in entries for e in mine}


def test_the_last_change_of_a_job_counts(tmp_path: Path) -> None:
    entries = [Entry(job, "wine", 0, 1, 0.0, name="mine", order="north", ttl=2) for job in (FIRST, SECOND)]
    with ledger.Ledger(tmp_path / "ledger") as book:
        for line in (entries[0], Change(FIRST, ("cancelled",)), entries[1], Change(FIRST, ("succeeded",), reruns=1)):
            book.note(line)
    first, second = ledger.read(tmp_path / "ledger")
    assert first == replace(entries[0], reruns=1)
    assert second == entries[1]


def test_the_load_is_a_mix_of_all_kinds_and_teams_that_the_seed_decides() -> None:
    asks = mixed(3, 1000, 3)
    assert asks == mixed(3, 1000, 3) != mixed(4, 1000, 3)
    assert {ask.kind for ask in asks} == set(MIX) == set(Kind)
    assert {ask.team for ask in asks} == {0, 1, 2}
    assert sum(ask.kind is Kind.PLAIN for ask in asks) == pytest.approx(700, abs=60)
    names = [ask.name for ask in asks if ask.name]
    assert len(set(names)) == len(names)


def test_what_the_models_must_answer_has_each_output() -> None:
    outputs = samples.expected("wine", 170, 12)
    assert outputs["probability"].shape == (12, 3)
    assert set(outputs["label"]) <= {"class_0", "class_1", "class_2"}
    assert samples.expected("breast_cancer", 0, 2)["label"] == ["malignant", "malignant"]


def test_recovery_is_the_time_until_a_job_asked_for_after_the_kill_is_done() -> None:
    kill = Blow(0.0, "worker", "kill", struck=100.0, back=2.0)
    freeze = Blow(0.0, "worker", "freeze", 3.0, struck=101.0)
    entries = [Entry(job, "wine", 0, 1, time) for job, time in ((FIRST, 99.0), (SECOND, 101.0), (UNNOTED, 101.0))]
    repeat = Entry(FIRST, "wine", 0, 1, 102.0)
    cancelled = Effect(UNNOTED, 1, "queued", "cancelled", 101.1)
    found = recovery([kill, freeze], [*entries, repeat], [effect(FIRST, 100.5), effect(SECOND, 104.5), cancelled])
    assert found["worker, back"] == spread([2.0])
    assert found["all, a new job done"] == spread([4.5])


def test_the_same_seed_gives_the_same_plan() -> None:
    assert plan(7, 60, 90.0, server_every=10) == plan(7, 60, 90.0, server_every=10)
    assert plan(7, 60, 90.0, server_every=10) != plan(8, 60, 90.0, server_every=10)
    assert {blow.victim for blow in plan(7, 60, 90.0, server_every=10)} >= {"broker", "database"}
    assert not {blow.victim for blow in plan(7, 60, 90.0, server_every=0)} & {"broker", "database"}
