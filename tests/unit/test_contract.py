"""The messages between portal and workers."""

import contextlib
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.contract import (
    Bundle,
    BundleResult,
    ErrorCode,
    Failure,
    Heartbeat,
    JobItem,
    Outcome,
    Run,
    Started,
    UnreadableMessage,
)

ROOT = Path(__file__).parents[2]
Message = Bundle | BundleResult | Started | Heartbeat

text = st.text(max_size=20)
count = st.integers(1, 5)
seconds = st.floats(0, 4e9)
items = st.builds(JobItem, id=text, attempt=count, rows=count, expires=st.none() | seconds)
runs = st.builds(Run, worker=text, host=text, device=text, started=seconds, finished=st.none() | seconds)
failures = st.builds(Failure, code=st.sampled_from(ErrorCode), message=text, traceback=text)
outcomes = st.builds(Outcome, id=text, attempt=count, outputs=text) | st.builds(
    Outcome, id=text, attempt=count, failure=failures
)


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    jobs = tuple(draw(st.lists(items, min_size=1, max_size=4)))
    columns = draw(count)
    size = 4 * columns * sum(job.rows for job in jobs)
    data = draw(st.binary(min_size=size, max_size=size))
    return Bundle(draw(text), draw(text), draw(text), draw(text), columns, jobs, data)


messages = st.one_of(
    bundles(),
    st.builds(BundleResult, bundle=text, run=runs, outcomes=st.lists(outcomes, max_size=4).map(tuple)),
    st.builds(Started, bundle=text, run=runs, jobs=st.lists(st.tuples(text, count), max_size=4).map(tuple)),
    st.builds(
        Heartbeat,
        worker=text,
        host=text,
        pools=st.lists(text, max_size=3).map(tuple),
        device=text,
        processes=count,
        models=st.lists(text, max_size=3).map(tuple),
        sent=seconds,
        problems=st.lists(text, max_size=3).map(tuple),
    ),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def over_the_wire(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = json.loads(json.dumps(message.to_message()))
    return wire


def bundle_message(**changes: Any) -> dict[str, Any]:
    bundle = Bundle("b", "m", "1", "ab", 2, (JobItem("x", 1, 1),), b"\0" * 8)
    return bundle.to_message() | changes


@given(messages)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert type(message).from_message(over_the_wire(message)) == message


@given(messages, json_values)
def test_unknown_keys_are_ignored(message: Message, value: Any) -> None:
    assert type(message).from_message(over_the_wire(message) | {"of the future": value}) == message


@pytest.mark.parametrize("kind", [Bundle, BundleResult, Started, Heartbeat])
@pytest.mark.parametrize("message", [{}, {"v": 2}, {"v": "1"}, {"v": None}, [], "text", None, 7])
def test_another_version_is_unreadable(kind: type[Message], message: Any) -> None:
    with pytest.raises(UnreadableMessage):
        kind.from_message(message)


@given(messages, st.data())
def test_a_message_of_another_shape_is_unreadable_or_read_and_never_another_error(message: Message, data: Any) -> None:
    wire = over_the_wire(message)
    key = data.draw(st.sampled_from(sorted(wire)))
    with contextlib.suppress(UnreadableMessage):
        type(message).from_message(wire | {key: data.draw(json_values)})


@pytest.mark.parametrize("kind", [Bundle, BundleResult, Started, Heartbeat])
@given(message=json_values)
def test_anything_that_is_json_is_read_without_another_error(kind: type[Message], message: Any) -> None:
    for candidate in (message, message | {"v": 1} if isinstance(message, dict) else None):
        with pytest.raises(UnreadableMessage):
            kind.from_message(candidate)


@pytest.mark.parametrize(
    "changes",
    [
        {"columns": float("inf")},
        {"columns": 0},
        {"columns": -1, "jobs": [["x", 1, -2]]},
        {"columns": 3},
        {"jobs": []},
        {"jobs": [["x", 1, 2]]},
        {"jobs": [["x", 1, 1], ["y", 1, 0]]},
        {"jobs": [["x", 1, 2], ["y", 1, -1]]},
        {"jobs": [["x", 1]]},
        {"jobs": ["xyz", 5]},
        {"data": "no base64!"},
        {"data": ""},
        {"data": None},
        {"expires": [None, None]},
        {"expires": ["soon"]},
        {"expires": 5},
        {"expires": [1e300]},
        {"expires": [float("nan")]},
        {"jobs": [["x", 0, 1]]},
        {"jobs": [["x", 2**15, 1]]},
        {"jobs": [["x", 2**70, 1]]},
    ],
    ids=str,
)
def test_a_bundle_whose_numbers_do_not_fit_one_another_is_unreadable(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableMessage):
        Bundle.from_message(bundle_message(**changes))


@pytest.mark.parametrize("missing", [{}, {"expires": None}, {"expires": []}], ids=str)
def test_a_bundle_of_a_sender_that_knows_no_time_to_live_is_read(missing: dict[str, Any]) -> None:
    message = bundle_message()
    del message["expires"]
    assert Bundle.from_message(message | missing).jobs == (JobItem("x", 1, 1, None),)


def test_a_heartbeat_of_a_worker_that_tells_no_problems_is_read() -> None:
    message = Heartbeat("w", "h", ("cpu",), "cpu", 1, (), 0.0).to_message()
    del message["problems"]
    assert Heartbeat.from_message(message).problems == ()


@pytest.mark.parametrize(
    "outcome",
    [
        {"id": "x", "attempt": 1},
        {"id": "x", "attempt": 1, "outputs": "[]", "failure": {"code": "bad-data", "message": ""}},
        {"id": "x", "attempt": 1, "failure": {"code": "no such code", "message": ""}},
        {"id": "x", "attempt": 1, "failure": []},
        {"id": "x", "attempt": float("inf"), "outputs": "[]"},
        {"id": "x", "attempt": 0, "outputs": "[]"},
        {"id": "x", "attempt": 2**70, "outputs": "[]"},
        5,
        None,
    ],
    ids=str,
)
def test_an_outcome_is_either_outputs_or_a_failure_with_a_known_code(outcome: Any) -> None:
    message = over_the_wire(BundleResult("b", Run("w", "h", "cpu", 0.0), ()))
    with pytest.raises(UnreadableMessage):
        BundleResult.from_message(message | {"outcomes": [outcome]})


@pytest.mark.parametrize("moment", ["started", "finished"])
@pytest.mark.parametrize("seconds", [1e300, -1e300, -1.0, float("inf"), float("nan"), 253_402_300_800.0])
def test_a_run_outside_the_calendar_is_unreadable(moment: str, seconds: float) -> None:
    run = asdict(Run("w", "h", "cpu", 0.0)) | {moment: seconds}
    with pytest.raises(UnreadableMessage):
        BundleResult.from_message({"v": 1, "bundle": "b", "run": run, "outcomes": []})
    with pytest.raises(UnreadableMessage):
        Started.from_message({"v": 1, "bundle": "b", "run": run, "jobs": []})


@pytest.mark.parametrize("processes", [0, 2**15])
def test_a_heartbeat_of_an_impossible_number_of_processes_is_unreadable(processes: int) -> None:
    message = Heartbeat("w", "h", ("cpu",), "cpu", 1, (), 0.0).to_message()
    with pytest.raises(UnreadableMessage):
        Heartbeat.from_message(message | {"processes": processes})


@pytest.mark.parametrize("sent", [10**400, 1e300, float("inf"), "soon", None, {}])
def test_a_heartbeat_without_a_usable_time_is_unreadable(sent: Any) -> None:
    message = Heartbeat("w", "h", ("cpu",), "cpu", 1, (), 0.0).to_message()
    with pytest.raises(UnreadableMessage):
        Heartbeat.from_message(message | {"sent": sent})


def test_the_contract_needs_only_the_standard_library() -> None:
    code = """
import sys
before = set(sys.modules)
import workers.contract
loaded = {name.partition(".")[0] for name in set(sys.modules) - before} - {"workers"}
sys.exit(", ".join(sorted(loaded - sys.stdlib_module_names)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
