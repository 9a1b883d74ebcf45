"""Models in containers: what is sent, what is believed of the answer, and what every kind of misbehaviour becomes."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.container_server import (
    Behaviour,
    Container,
    answering,
    container_server,
    dripping,
    dying,
    endless,
    hanging,
    two_labels,
)
from tests.ports import free_port
from tests.unit.builders import release
from workers import slots
from workers.breaker import FAILURES
from workers.calls import CALL, Call
from workers.container_http import ContainerError, ContainerUnavailable
from workers.preprocessing import BadData
from workers.runtimes.container import ContainerModel

COLUMNS = [
    {"name": "a"},
    {"name": "n", "type": "int", "missing": True},
    {"name": "c", "type": "category", "categories": ["x", "y"], "missing": True},
]
ROWS = np.array([[1, 3, 1], [9, np.nan, np.nan]], dtype=np.float32)


@pytest.fixture
def container() -> Iterator[Container]:
    with container_server(two_labels) as running:
        yield running


def model(*urls: str, **changes: Any) -> ContainerModel:
    section = {"urls": urls, "timeout_seconds": 1.0, **changes}
    found = release(
        runtime="container", pool="container", artifact=..., device="auto", container=section, columns=COLUMNS
    )
    return ContainerModel(found)


def v2(**changes: Any) -> dict[str, Any]:
    probability = {"name": "probability", "datatype": "FP32", "shape": [2], "data": [0.25, 0.75]} | changes
    label = {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["no", "yes"]}
    return {"outputs": [probability, label]}


def test_rows_go_as_v2_with_a_column_each_and_outputs_come_back(container: Container) -> None:
    CALL.set(Call("3f0e", 2, "handling=lenient"))
    try:
        outputs = model(container.url, headers={"Authorization": "Bearer s"}).outputs(ROWS)
    finally:
        CALL.set(Call())
    assert outputs is not None
    np.testing.assert_array_equal(outputs["probability"], np.float32([0.1, 0.9]))
    assert outputs["label"].tolist() == ["no", "yes"]
    (asked,) = container.asked
    assert asked.json == {
        "id": "3f0e",
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [2], "data": [1.0, 9.0]},
            {"name": "n", "datatype": "INT64", "shape": [2], "data": [3, None]},
            {"name": "c", "datatype": "BYTES", "shape": [2], "data": ["y", None]},
        ],
        "outputs": [{"name": "probability"}, {"name": "label"}],
    }
    headers = {name.lower(): value for name, value in asked.headers.items()}
    assert headers["x-inference-id"] == "3f0e"
    assert headers["x-inference-attempt"] == "2"
    assert headers["prefer"] == "handling=lenient"
    assert headers["authorization"] == "Bearer s"


def test_plain_json_has_an_object_a_row(container: Container) -> None:
    predictions = [{"probability": 0.25, "label": "no"}, {"probability": 1, "label": "yes", "more": None}]
    container.behave(answering({"predictions": predictions}))
    outputs = model(container.url, protocol="json").outputs(ROWS)
    assert outputs is not None
    assert outputs["probability"].tolist() == [0.25, 1.0] and outputs["label"].tolist() == ["no", "yes"]
    assert container.asked[0].json == {"instances": [{"a": 1.0, "n": 3.0, "c": "y"}, {"a": 9.0, "n": None, "c": None}]}


def test_many_rows_are_several_calls(container: Container) -> None:
    outputs = model(container.url, max_rows=2).outputs(np.repeat(ROWS, 3, axis=0)[:5])
    assert outputs is not None
    assert [len(asked.json["inputs"][0]["data"]) for asked in container.asked] == [2, 2, 1]
    np.testing.assert_array_equal(outputs["probability"], np.float32([0.1, 0.1, 0.1, 0.9, 0.9]))


WRONG: dict[str, tuple[Any, str]] = {
    "no JSON": (b"<html>", "no JSON"),
    "no object": ([1], "no JSON object"),
    "no outputs": ({"predictions": []}, "no list 'outputs'"),
    "outputs of another kind": ({"outputs": ["x"]}, "no list 'outputs'"),
    "another model's outputs": ({"outputs": [{"name": "price"}]}, "no output 'probability', but 'price'"),
    "another datatype": (v2(datatype="INT32"), "datatype INT32, expected FP32"),
    "another shape": (v2(shape=[2, 3]), "shape [2, 3], expected [2]"),
    "too few values": (v2(data=[0.5]), "1 values, expected 2"),
    "too many values": (v2(data=[0.5] * 3), "3 values, expected 2"),
    "no values": (v2(data=None), "0 values"),
    "texts for numbers": (v2(data=["0.5", "0.5"]), "not a finite number"),
    "booleans for numbers": (v2(data=[True, False]), "not a finite number"),
    "nulls": (v2(data=[None, 0.5]), "not a finite number"),
    "objects": (v2(data=[{}, {}]), "not a finite number"),
    "ragged": (v2(data=[[1], [1, 2]]), "no regular table"),
    "not finite as float32": (v2(data=[1e39, 0]), "no finite float32"),
    "a number that JSON doesn't have": (b'{"outputs": [NaN]}', "no JSON"),
    "a label of another model": (
        {"outputs": [v2()["outputs"][0], {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["cat", "dog"]}]},
        "labels that the manifest doesn't have",
    ),
}


@pytest.mark.parametrize(("answer", "text"), WRONG.values(), ids=WRONG)
def test_an_answer_that_is_not_the_manifest_s_is_an_error_that_stays(
    container: Container, answer: Any, text: str
) -> None:
    container.behave(answering(answer))
    with pytest.raises(ContainerError, match=text.replace("[", r"\[")):
        model(container.url).outputs(ROWS)
    assert len(container.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [v2(shape=[2, 1]), v2(shape=[2, 1], data=[[0.25], [0.75]]), v2(data=[0.25, 0.75], parameters={"x": 1})],
)
def test_one_value_a_row_may_be_written_as_a_column(container: Container, answer: Any) -> None:
    container.behave(answering(answer))
    outputs = model(container.url).outputs(ROWS)
    assert outputs is not None and outputs["probability"].tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "answer", [{"predictions": [1]}, {"predictions": [{"probability": 1}] * 2}, {"predictions": 2}, {}]
)
def test_plain_json_of_another_shape_is_an_error(container: Container, answer: Any) -> None:
    container.behave(answering(answer))
    with pytest.raises(ContainerError):
        model(container.url, protocol="json").outputs(ROWS)


STATUSES: list[tuple[int, type[Exception]]] = [
    *((status, ContainerUnavailable) for status in (429, 502, 503, 504)),
    *((status, BadData) for status in (400, 413, 422)),
    *((status, ContainerError) for status in (201, 202, 301, 401, 404, 500)),
]


@pytest.mark.parametrize(("status", "error"), STATUSES)
def test_what_a_status_means(container: Container, status: int, error: type[Exception]) -> None:
    container.behave(answering({"error": "so it is"}, status, Location=container.url))
    with pytest.raises(error, match="so it is"):
        model(container.url).outputs(ROWS)
    # No redirect is followed, nothing repeated.
    assert len(container.asked) == 1


@pytest.mark.parametrize("behaviour", [hanging, dripping, dying], ids=lambda each: each.__name__)
def test_an_answer_that_never_becomes_whole_is_transient(container: Container, behaviour: Behaviour) -> None:
    container.behave(behaviour)
    begun = time.monotonic()
    with pytest.raises(ContainerUnavailable):
        model(container.url).outputs(ROWS)
    assert time.monotonic() - begun < 4


def test_an_endless_answer_is_cut_off(container: Container) -> None:
    container.behave(endless)
    with pytest.raises(ContainerError, match="more than"):
        model(container.url, timeout_seconds=20).outputs(ROWS)


def test_a_compressed_answer_is_refused(container: Container) -> None:
    container.behave(answering(b"\x1f\x8b", Content_Encoding="gzip"))
    with pytest.raises(ContainerError, match="coding"):
        model(container.url).outputs(ROWS)


def test_an_address_that_nobody_listens_at_is_passed_over(container: Container) -> None:
    gone = f"http://127.0.0.1:{free_port()}/infer"
    both = model(gone, container.url)
    for _ in range(4):
        assert both.outputs(ROWS)
    assert len(container.asked) == 4
    with pytest.raises(ContainerUnavailable, match="can't be reached"):
        model(gone).outputs(ROWS)


def test_an_address_that_has_seen_the_request_is_not_followed_by_another(container: Container) -> None:
    container.behave(dying)
    with container_server(two_labels) as second, pytest.raises(ContainerUnavailable):
        model(container.url, second.url).outputs(ROWS)
    assert len(container.asked) == 1 and not second.asked


def test_an_address_that_keeps_failing_is_left_alone_until_it_is_well(container: Container) -> None:
    container.behave(answering({}, 503))
    container.well = False
    asking = model(container.url, health="/health")
    for _ in range(FAILURES):
        with pytest.raises(ContainerUnavailable):
            asking.outputs(ROWS)
    with pytest.raises(ContainerUnavailable, match="failed several times, it is asked again in 2 s"):
        asking.outputs(ROWS)
    assert (len(container.asked), container.health_asked) == (FAILURES, 0)
    time.sleep(2.1)
    with pytest.raises(ContainerUnavailable, match="isn't well yet"):
        asking.outputs(ROWS)
    assert (len(container.asked), container.health_asked) == (FAILURES, 1)
    container.behave(two_labels)
    container.well = True
    time.sleep(4.1)
    assert asking.outputs(ROWS)


def test_so_many_calls_at_once_and_no_more(container: Container) -> None:
    def slow(handler: Any, asked: Any) -> None:
        time.sleep(0.1)
        two_labels(handler, asked)

    container.behave(slow)
    asking = model(container.url, max_concurrency=2, timeout_seconds=10)
    threads = [threading.Thread(target=asking.outputs, args=(ROWS,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(container.asked), container.most_at_once) == (8, 2)


def test_no_place_in_time_is_transient(container: Container) -> None:
    asking = model(container.url, max_concurrency=1, timeout_seconds=0.3)
    manifest = asking._release.manifest
    with (
        slots.taken(f"{manifest.model}.{manifest.version}.{manifest.sha256}", 1, 0),
        pytest.raises(ContainerUnavailable, match="under way"),
    ):
        asking.outputs(ROWS)
    assert asking.outputs(ROWS) and len(container.asked) == 1


def test_a_container_may_go_on_by_itself_when_nobody_waits(container: Container) -> None:
    CALL.set(Call("3f0e", 1, "respond-async"))
    try:
        container.behave(answering({"task": 1}, 202), answering(b"", 204), two_labels, answering({"x": 1}))
        asking = model(container.url)
        assert asking.outputs(ROWS) is None
        assert asking.outputs(ROWS) is None
        assert asking.outputs(ROWS) is not None
        with pytest.raises(ContainerError):
            asking.outputs(ROWS)
        # The answer to one row is none to two.
        container.behave(answering({"task": 1}, 202), two_labels)
        assert model(container.url, max_rows=1).outputs(ROWS) is None
    finally:
        CALL.set(Call())


def test_health(container: Container) -> None:
    model(container.url).check_health()
    model(container.url, health="/health").check_health()
    container.well = False
    with pytest.raises(ContainerUnavailable, match="/health"):
        model(container.url, health="/health").check_health()
