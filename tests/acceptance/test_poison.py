"""Jobs that kill, crash, hang or bring down their worker, in the middle of others: only they end as dead letters."""

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests import services
from tests.acceptance.test_main_path import data, direct
from tests.chaos.samples import store_copy
from tests.stack import Stack, running

# Values that no other sample has; they make the worker do it, in whichever bundle they come.
# `KILLS` is also what the kernel does when a machine is out of memory; `EXHAUSTS` when only the process is.
KILLS, HANGS, TAKES_THE_PARENT, SEGFAULTS, EXITS, EXHAUSTS = (number + 0.4375 for number in range(101, 107))
WHERE = {KILLS: 11, SEGFAULTS: 17, HANGS: 23, EXITS: 29, EXHAUSTS: 35, TAKES_THE_PARENT: 41}
# What its attempts may be: its own code, and what the neighbours of another poison are told.
LOST = {"worker-lost", "timed-out", "lease-expired"}
CODES = dict.fromkeys(WHERE.values(), LOST) | {WHERE[EXHAUSTS]: LOST | {"out-of-memory"}}
MAGNESIUM = 4
ATTEMPTS = 2


def poison(value: float) -> str:
    return struct.pack("<f", value).hex()


@pytest.fixture(params=["embedded", "full"])
def poisoned(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """A stack whose workers can't stand these values."""
    places = (
        f"worker.before_predict@{poison(KILLS)}=kill*1000",
        f"worker.in_predict@{poison(SEGFAULTS)}=segfault*1000",
        f"worker.in_predict@{poison(EXITS)}=exit*1000",
        f"worker.in_predict@{poison(EXHAUSTS)}=memory*1000",
        f"worker.after_predict@{poison(HANGS)}=sleep:300*1000",
        f"worker.received@{poison(TAKES_THE_PARENT)}=kill-parent*1000",
    )
    variables = {
        "MODEL_STORE": str(store_copy(tmp_path / "store", timeout_seconds=2.0, attempts=ATTEMPTS)),
        "FAILPOINTS": ",".join(places),
        "START_BATCH": "0",
        # On the embedded broker a message goes with the parent that has it: the lease brings its jobs back. It must be
        # longer than a new child takes to start, for the next suspect waits for that.
        "LEASE_SECONDS": "15",
    }
    with ExitStack() as context:
        if request.param == "full":
            server, node = request.getfixturevalue("postgres"), request.getfixturevalue("rabbitmq")
            variables["database_url"] = context.enter_context(services.migrated_database(server))
            variables["broker_url"] = context.enter_context(services.virtual_host(node))
        yield context.enter_context(running(Stack(tmp_path / "run", **variables)))


def test_only_the_poison_ends_as_a_dead_letter(poisoned: Stack, store: Path) -> None:
    rows, _ = data("wine", 60)
    for value, position in WHERE.items():
        rows[position, MAGNESIUM] = value
    expected = direct(store, "wine", rows)
    jobs = [{"instances": [row.tolist()]} for row in rows]
    answers = [poisoned.infer("wine", body, Prefer="respond-async") for body in jobs]
    for position, answer in enumerate(answers):
        result = poisoned.result(answer, seconds=240)
        job = poisoned.client.get(f"/api/jobs/{answer.json()['Id']}/").json()
        if position not in WHERE.values():
            assert result.status_code == 200, "\n".join(map(str, job["attempts"]))
            got = np.array(result.json()["predictions"][0]["probability"], dtype=np.float32)
            assert np.array_equal(got, expected[position])
            continue
        assert result.json()["type"] == "/problems/dead-lettered", result.text
        codes = {attempt["code"] for attempt in job["attempts"]}
        assert codes <= CODES[position], job["attempts"]
        if position == WHERE[EXHAUSTS]:
            # The process lives and knows whose matrix it was; it may have been in a bundle with another poison before.
            assert [attempt["code"] for attempt in job["attempts"]][-ATTEMPTS:] == ["out-of-memory"] * ATTEMPTS
            continue
        # The first time it may have been anybody in its bundle; what counts is what it does alone.
        assert len(job["attempts"]) == 1 + ATTEMPTS, job["attempts"]
        if position == WHERE[HANGS]:
            assert "timed-out" in codes, "\n".join(map(str, job["attempts"]))
    # Nothing of it is left on the way: the next one is served as ever.
    assert poisoned.infer("wine", jobs[0]).status_code == 200
    letters = poisoned.client.get("/api/dead-letters/").json()["results"]
    assert {letter["id"] for letter in letters} == {answers[i].json()["Id"] for i in WHERE.values()}
