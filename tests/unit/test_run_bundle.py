"""What a worker makes of a bundle."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from workers import tasks
from workers.contract import Bundle, ErrorCode, JobItem, Outcome
from workers.loaded_models import LoadedModels
from workers.model_store import ModelStore
from workers.runtimes import Matrix
from workers.runtimes.xgb import XGBoostModel

GOOD = [1.5, np.nan, -3]


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch, trained_store: Path) -> None:
    """A worker whose store holds the tiny models."""
    monkeypatch.setattr(tasks, "_models", LoadedModels(ModelStore(trained_store)))


def bundle(store: Path, *jobs: list[list[float]], model: str = "two", sha256: str | None = None) -> Bundle:
    """A bundle of jobs, each given as its rows."""
    matrix = np.array([row for rows in jobs for row in rows], dtype="<f4")
    return Bundle(
        id="b",
        model=model,
        version="1",
        sha256=sha256 or ModelStore(store).get(model).manifest.sha256,
        columns=matrix.shape[1],
        jobs=tuple(JobItem(f"job {i}", i + 1, len(rows)) for i, rows in enumerate(jobs)),
        data=matrix.tobytes(),
    )


def values(outcome: Outcome) -> npt.NDArray[np.float32]:
    assert outcome.outputs is not None, outcome.failure
    tensor = json.loads(outcome.outputs)[0]
    return np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])


@pytest.mark.parametrize("model", ["two", "three", "number"])
def test_every_job_gets_its_own_rows_back(trained_store: Path, model: str) -> None:
    rows = np.random.default_rng(5).normal(size=(6, 3)).astype(np.float32)
    engine, outcomes = tasks.run_bundle(
        bundle(trained_store, rows[:1].tolist(), rows[1:4].tolist(), rows[4:].tolist(), model=model)
    )
    booster = xgboost.Booster(model_file=str(trained_store / model / "1" / "model.ubj"))
    expected = booster.inplace_predict(rows, strict_shape=True)
    assert engine.device == "cpu"
    assert re.fullmatch(r"xgboost [0-9.]+, numpy [0-9.]+", engine.libraries)
    assert [(o.id, o.attempt, o.failure) for o in outcomes] == [(f"job {i}", i + 1, None) for i in range(3)]
    for outcome, part in zip(outcomes, (expected[:1], expected[1:4], expected[4:]), strict=True):
        np.testing.assert_array_equal(values(outcome), part if model == "three" else part[:, 0])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1, 2, 101], "row 1, column 'c': 101 is outside the range -100 to 100"),
        ([np.inf, 2, 3], "row 1, column 'a': expected a finite number"),
        ([np.nan, 2, 3], "row 1, column 'a': a value is required"),
    ],
)
def test_one_bad_job_fails_alone(trained_store: Path, row: list[float], message: str) -> None:
    _, outcomes = tasks.run_bundle(bundle(trained_store, [GOOD], [GOOD, row], [GOOD, GOOD]))
    assert [o.failure is None for o in outcomes] == [True, False, True]
    failure = outcomes[1].failure
    assert failure is not None
    assert (failure.code, failure.message.startswith(message), failure.traceback) == (ErrorCode.BAD_DATA, True, "")
    (good,) = tasks.run_bundle(bundle(trained_store, [GOOD]))[1]
    np.testing.assert_array_equal(values(outcomes[0]), values(good))
    np.testing.assert_array_equal(values(outcomes[2]), np.repeat(values(good), 2))


def test_a_single_bad_job_fails(trained_store: Path) -> None:
    _, (outcome,) = tasks.run_bundle(bundle(trained_store, [[np.inf, 2, 3]]))
    assert outcome.failure is not None
    assert outcome.failure.code is ErrorCode.BAD_DATA


def test_another_number_of_columns_fails_every_job(trained_store: Path) -> None:
    _, outcomes = tasks.run_bundle(bundle(trained_store, [[1, 2]], [[3, 4]]))
    assert [o.failure and o.failure.code for o in outcomes] == [ErrorCode.BAD_DATA] * 2


@pytest.mark.parametrize(("model", "sha256"), [("none", "ab"), ("two", "ab")], ids=["unknown model", "wrong sha256"])
def test_a_model_that_this_worker_can_not_serve_fails_every_job(trained_store: Path, model: str, sha256: str) -> None:
    engine, outcomes = tasks.run_bundle(bundle(trained_store, [GOOD], [GOOD], model=model, sha256=sha256))
    assert engine == tasks.Engine()
    assert [(o.id, o.attempt) for o in outcomes] == [("job 0", 1), ("job 1", 2)]
    for outcome in outcomes:
        assert outcome.failure is not None
        assert outcome.failure.code is ErrorCode.MODEL_UNAVAILABLE
        assert outcome.failure.message.startswith(f"{model} version 1: ")
        assert "ModelUnavailable" in outcome.failure.traceback


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MemoryError(), ErrorCode.OUT_OF_MEMORY, "out of memory at 1 rows"),
        (RuntimeError("broken tree"), ErrorCode.MODEL_ERROR, "RuntimeError: broken tree"),
    ],
    ids=["out of memory", "broken"],
)
def test_an_error_in_predict_fails_only_the_jobs_that_raise_it(
    monkeypatch: pytest.MonkeyPatch, trained_store: Path, error: Exception, code: ErrorCode, message: str
) -> None:
    # Loaded before it breaks.
    tasks.run_bundle(bundle(trained_store, [[1, 2, 3]]))
    predict = XGBoostModel.predict

    def raises_on_minus_three(self: XGBoostModel, features: Matrix, margin: Matrix | None = None) -> Matrix:
        if -3 in features[:, 2]:
            raise error
        return predict(self, features, margin)

    monkeypatch.setattr(XGBoostModel, "predict", raises_on_minus_three)
    _, outcomes = tasks.run_bundle(bundle(trained_store, [[1, 2, 3]], [GOOD]))
    assert outcomes[0].failure is None
    failure = outcomes[1].failure
    assert failure is not None
    assert (failure.code, failure.message) == (code, message)
    assert type(error).__name__ in failure.traceback


def jobs_of(bundle: Bundle) -> list[tuple[JobItem, bytes]]:
    """Each job with its rows."""
    found, start = [], 0
    for job in bundle.jobs:
        end = start + 4 * bundle.columns * job.rows
        found.append((job, bundle.data[start:end]))
        start = end
    assert start == len(bundle.data)
    return found


ages = st.none() | st.sampled_from([99.0, 100.0, 100.5, 1e10])


@given(
    shape=st.lists(st.tuples(st.integers(1, 4), ages), min_size=1, max_size=6),
    columns=st.integers(1, 3),
    random=st.randoms(use_true_random=False),
)
def test_the_jobs_that_came_too_late_are_taken_out_with_their_rows(shape: Any, columns: int, random: Any) -> None:
    data = random.randbytes(4 * columns * sum(rows for rows, _ in shape))
    jobs = tuple(JobItem(f"job {i}", i + 1, rows, expires) for i, (rows, expires) in enumerate(shape))
    whole = Bundle("b", "two", "1", "ab", columns, jobs, data)
    left, outcomes = tasks._without_expired(whole, 100.0)
    late = [job for job in jobs if job.expires is not None and job.expires <= 100.0]
    assert [(o.id, o.attempt) for o in outcomes] == [(job.id, job.attempt) for job in late]
    assert all(o.failure is not None and o.failure.code is ErrorCode.EXPIRED for o in outcomes)
    assert jobs_of(left) == [(job, rows) for job, rows in jobs_of(whole) if job not in late]
    assert replace(left, jobs=jobs, data=data) == whole


@pytest.mark.parametrize(
    ("delivery_info", "headers", "before"),
    [
        ({"redelivered": False}, {}, False),
        ({}, {}, False),
        (None, {}, False),
        ({"redelivered": None}, {"x-delivery-count": 0}, False),
        ({"redelivered": True}, {}, True),
        ({"redelivered": False}, {"x-delivery-count": 1}, True),
    ],
)
def test_a_message_that_was_delivered_before_is_known(delivery_info: Any, headers: Any, before: bool) -> None:
    tasks.infer.push_request(delivery_info=delivery_info, **headers)
    try:
        assert tasks._came_before(tasks.infer) is before
    finally:
        tasks.infer.pop_request()
