"""The checker finds each kind of broken promise on made-up rows, and nothing where all is well."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from uuid import UUID, uuid4

import numpy as np
import pytest

from tests.chaos import ledger
from tests.chaos.checker import AttemptRow, Evidence, JobRow, violations
from tests.chaos.effects import Effect
from tests.chaos.ledger import Entry
from tests.chaos.monkey import Blow, plan
from tests.chaos.recovery import recovery, spread

FIRST, SECOND, UNNOTED = (UUID(int=n) for n in (1, 2, 3))


def expected(model: str, first: int, rows: int) -> np.ndarray:
    return (np.arange(first, first + rows, dtype=np.float32) / np.float32(3)).astype(np.float32)


def result(first: int, rows: int) -> bytes:
    """Return what a worker stores for these samples."""
    values = [float(str(value)) for value in expected("wine", first, rows)]
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
    "unexpected end: job": lambda e: with_row(e, row(FIRST, "dead_lettered")),
    "is failed (too bad); failed attempts: 1 worker-lost": lambda e: with_row(
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


@pytest.mark.parametrize("line", BROKEN)
def test_each_broken_promise_is_found(clean: Evidence, line: str) -> None:
    (found,) = violations(BROKEN[line](clean), expected, broker_alone=True)
    assert line in found


def test_a_lease_may_end_where_it_is_the_way_back(clean: Evidence) -> None:
    assert violations(replace(clean, attempts=[AttemptRow(FIRST, 1, "lease-expired")]), expected) == []


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


@pytest.mark.parametrize(
    "stored", [_one_bit_off(), result(11, 2), result(10, 1), b"[]", b"", b"null", b'[{"name": "probability"}]']
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


def test_recovery_is_the_time_until_a_job_asked_for_after_the_kill_is_done() -> None:
    kill = Blow(0.0, "worker", "kill", struck=100.0, back=2.0)
    freeze = Blow(0.0, "worker", "freeze", 3.0, struck=101.0)
    entries = [Entry(FIRST, "wine", 0, 1, 99.0), Entry(SECOND, "wine", 0, 1, 101.0)]
    found = recovery([kill, freeze], entries, [effect(FIRST, 100.5), effect(SECOND, 104.5)])
    assert found["worker, back"] == spread([2.0])
    assert found["all, a new job done"] == spread([4.5])


def test_the_same_seed_gives_the_same_plan() -> None:
    assert plan(7, 60, 90.0, server_every=10) == plan(7, 60, 90.0, server_every=10)
    assert plan(7, 60, 90.0, server_every=10) != plan(8, 60, 90.0, server_every=10)
    assert {blow.victim for blow in plan(7, 60, 90.0, server_every=10)} >= {"broker", "database"}
    assert not {blow.victim for blow in plan(7, 60, 90.0, server_every=0)} & {"broker", "database"}
