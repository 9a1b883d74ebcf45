"""The main path through the real processes, over HTTP, on both stacks; predictions equal the model called directly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import xgboost

from tests.stack import Stack

MODELS = {"breast_cancer": sklearn.datasets.load_breast_cancer, "wine": sklearn.datasets.load_wine}


def direct(store: Path, model: str, rows: np.ndarray) -> np.ndarray:
    """Return what the model file itself says, without any of our code."""
    booster = xgboost.Booster(model_file=store / model / "1" / "model.ubj")
    return np.asarray(booster.inplace_predict(rows.astype(np.float32)))


def data(model: str, rows: int) -> tuple[np.ndarray, list[str]]:
    bunch = MODELS[model]()
    picks = np.linspace(0, len(bunch.data) - 1, rows).astype(int)
    return bunch.data[picks], [str(n) for n in bunch.feature_names]


def tensors(body: dict[str, Any]) -> dict[str, np.ndarray]:
    kinds = {"FP32": np.float32, "BYTES": object}
    return {t["name"]: np.array(t["data"], dtype=kinds[t["datatype"]]).reshape(t["shape"]) for t in body["outputs"]}


@pytest.mark.parametrize("model", MODELS)
def test_every_way_of_asking_gives_the_models_own_prediction(stack: Stack, store: Path, model: str) -> None:
    rows, names = data(model, 40)
    expected = direct(store, model, rows)
    table = {"name": "table", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    columns = [
        {"name": name, "shape": [len(rows), 1], "datatype": "FP64", "data": rows[:, i].tolist()}
        for i, name in reversed(list(enumerate(names)))
    ]
    for body in ({"inputs": [table], "id": "mine"}, {"inputs": columns}):
        answer = stack.infer(model, body)
        assert answer.status_code == 200, answer.text
        assert np.array_equal(tensors(answer.json())["probability"], expected)
    assert stack.infer(model, {"inputs": [table], "id": "mine"}).json()["id"] == "mine"

    records = [dict(zip(reversed(names), row[::-1].tolist(), strict=True)) for row in rows]
    for body in ({"instances": rows.tolist()}, {"instances": records}):
        answer = stack.infer(model, body)
        assert answer.status_code == 200, answer.text
        got = np.array([p["probability"] for p in answer.json()["predictions"]], dtype=np.float32)
        assert np.array_equal(got, expected)


def test_a_synchronous_answer_has_the_contracts_headers(stack: Stack) -> None:
    rows, _ = data("wine", 1)
    answer = stack.infer("wine", {"instances": rows.tolist()}, Prefer="wait=20, something-else")
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert "Prefer" in answer.headers["Vary"]
    status = stack.client.get(f"/status/wine/{answer.headers['X-Inference-Id']}").json()
    assert status["Status"] == "Completed"
    assert status["State"] == "succeeded"
    assert status["Error"] is None
    assert status["Attempts"] == 1


def test_an_asynchronous_request_is_polled_by_path_and_by_header(stack: Stack, store: Path) -> None:
    rows, _ = data("breast_cancer", 3)
    answer = stack.infer("breast_cancer", {"instances": rows.tolist()}, Prefer="respond-async")
    assert answer.status_code == 202
    body = answer.json()
    assert body.keys() == {"Id", "StatusPath", "ResultPath"}
    assert answer.headers["Location"] == body["ResultPath"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.headers["X-Inference-Id"] == body["Id"]

    result = stack.result(answer)
    assert result.status_code == 200
    got = np.array([p["probability"] for p in result.json()["predictions"]], dtype=np.float32)
    assert np.array_equal(got, direct(store, "breast_cancer", rows))
    by_header = {"X-Inference-Id": body["Id"]}
    assert stack.client.get("/result/breast_cancer", headers=by_header).json() == result.json()
    assert stack.client.get("/status/breast_cancer", headers=by_header).json()["State"] == "succeeded"
    other = {"X-Inference-Id": "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11"}
    assert stack.client.get(body["ResultPath"], headers=other).status_code == 400
    assert stack.client.get(f"/result/wine/{body['Id']}").status_code == 404


def test_respond_async_with_wait_answers_with_the_result_when_it_is_quick(stack: Stack) -> None:
    rows, _ = data("wine", 1)
    answer = stack.infer("wine", {"instances": rows.tolist()}, Prefer="respond-async, wait=20")
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "respond-async, wait=20"


def test_a_wait_that_is_over_says_where_the_result_will_be(stack: Stack) -> None:
    rows, _ = data("wine", 1)
    answer = stack.infer("wine", {"instances": rows.tolist()}, Prefer="wait=0")
    assert answer.status_code == 504
    assert answer.json()["type"] == "/problems/wait-expired"
    assert answer.json()["error"]
    result = stack.client.get(answer.headers["Location"], params={"wait": 20})
    assert result.status_code == 200


def test_fire_and_forget_answers_with_nothing_to_fetch(stack: Stack) -> None:
    rows, _ = data("wine", 1)
    answer = stack.infer("wine", {"instances": rows.tolist()}, Prefer="respond-async-proxy")
    assert (answer.status_code, answer.content) == (202, b"")
    assert "Location" not in answer.headers and "Content-Type" not in answer.headers
    job_id = answer.headers["X-Inference-Id"]
    result = stack.client.get(f"/result/wine/{job_id}")
    assert (result.status_code, result.json()["type"]) == (410, "/problems/result-not-kept")
    assert stack.client.get(f"/status/wine/{job_id}?wait=20").json()["State"] == "succeeded"
    assert stack.client.get(f"/result/wine/{job_id}").status_code == 410


def test_a_body_of_unknown_length_is_read_as_it_comes(stack: Stack) -> None:
    rows, _ = data("wine", 1)
    body = json.dumps({"instances": rows.tolist()}).encode()
    for parts, status in (((body[:20], body[20:]), 200), ((b" " * 1_000_000,) * 9, 413)):
        headers = {"Content-Type": "application/json"}
        answer = stack.client.post("/v2/models/wine/infer", content=iter(parts), headers=headers)
        assert answer.status_code == status, answer.text


def test_jobs_are_created_listed_and_looked_at(stack: Stack) -> None:
    rows, _ = data("wine", 2)
    accepted = stack.client.post("/api/jobs/", json={"model": "wine", "version": "1", "rows": rows.tolist()})
    assert accepted.status_code == 202
    job_id = accepted.json()["Id"]
    assert stack.result(accepted).status_code == 200
    page = stack.client.get("/api/jobs/", params={"model": "wine", "state": "succeeded", "page_size": 5}).json()
    assert page.keys() == {"next", "previous", "results"}
    assert job_id in [job["id"] for job in page["results"]]
    detail = stack.client.get(f"/api/jobs/{job_id}/").json()
    assert detail["state"] == "succeeded"
    (attempt,) = detail["attempts"]
    assert attempt["number"] == 1
    assert attempt["worker"].startswith("cpu@")
    assert attempt["device"]
    assert stack.client.post(f"/api/jobs/{job_id}/cancel/").status_code == 409


def test_many_requests_at_once_are_each_answered_with_their_own_result(stack: Stack, store: Path) -> None:
    rows, _ = data("breast_cancer", 200)
    expected = direct(store, "breast_cancer", rows)
    accepted = [stack.infer("breast_cancer", {"instances": [row.tolist()]}, Prefer="respond-async") for row in rows]
    for answer, probability in zip(accepted, expected, strict=True):
        result = stack.result(answer)
        assert np.float32(result.json()["predictions"][0]["probability"]) == probability


@pytest.mark.parametrize(
    ("body", "status", "slug", "pointer"),
    [
        ('{"instances": [[1, 2]]}', 422, "invalid-input", "/instances/0"),
        ('{"instances": [[1,2,3,4,5,6,7,8,9,10,11,12,NaN]]}', 422, "invalid-input", "/instances/0/12"),
        ('{"instances": [[1,2,3,4,5,6,7,8,9,10,11,12,-Infinity]]}', 422, "invalid-input", "/instances/0/12"),
        ('{"instances": [[1,2,3,4,5,6,7,8,9,10,11,12,"13"]]}', 422, "invalid-input", "/instances/0/12"),
        ('{"instances": [{"alcohol": 1}]}', 422, "invalid-input", "/instances/0/malic_acid"),
        (
            '{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1]}]}',
            422,
            "invalid-input",
            "/inputs/0/shape",
        ),
        ('{"instances": [', 400, "malformed", None),
    ],
)
def test_a_wrong_request_names_its_place_and_queues_nothing(
    stack: Stack, body: str, status: int, slug: str, pointer: str | None
) -> None:
    newest = stack.client.get("/api/jobs/?page_size=1").json()["results"]
    answer = stack.client.post("/v2/models/wine/infer", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"/problems/{slug}"
    assert problem["error"] == problem["detail"]
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer
        assert "row 0" in problem["errors"][0]["detail"] or pointer.startswith("/inputs")
    assert stack.client.get("/api/jobs/?page_size=1").json()["results"] == newest


def test_other_refusals_have_their_status(stack: Stack) -> None:
    rows, _ = data("wine", 1)
    body = {"instances": rows.tolist()}
    assert stack.infer("nothing", body).status_code == 404
    assert stack.client.post("/v2/models/wine/versions/99/infer", json=body).status_code == 404
    assert stack.client.post("/v2/models/wine/versions/1/infer", json=body).status_code == 200
    assert stack.infer("wine", body, Content_Type="text/html").status_code == 415
    # A table whose only line is JSON: it can be read, but has none of the columns.
    assert stack.infer("wine", body, Content_Type="text/csv").status_code == 422
    too_large = stack.client.post(
        "/v2/models/wine/infer", content=b" " * (8 * 1024 * 1024 + 1), headers={"Content-Type": "application/json"}
    )
    assert too_large.status_code == 413
    assert stack.infer("wine", {"instances": rows.tolist() * 10_001}).status_code == 413
    relayed = stack.infer("wine", body, Prefer="respond-async-container")
    assert (relayed.status_code, relayed.json()["type"]) == (422, "/problems/not-a-container")
    assert stack.infer("wine", body, Authorization="Bearer nonsense").status_code == 401
    assert stack.infer("wine", body, Accept="text/html").status_code == 406
    assert stack.client.put("/v2/models/wine/infer", json=body).status_code == 405


def test_health_and_metadata(stack: Stack) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/healthz", "/readyz", "/problems/invalid-input"):
        assert stack.client.get(path, headers={"Authorization": ""}).status_code == 200, path
    metadata = stack.client.get("/v2/models/breast_cancer").json()
    assert metadata["versions"] == ["1"]
    assert [i["name"] for i in metadata["inputs"]][:2] == ["mean radius", "mean texture"]
    assert {o["name"] for o in metadata["outputs"]} == {"probability", "label"}
    assert stack.client.get("/v2/models/breast_cancer/versions/1/ready").status_code == 200
    assert stack.client.get("/v2/models/breast_cancer", headers={"Authorization": ""}).status_code == 401
    schema = json.loads(stack.client.get("/api/schema/").text)
    assert schema["openapi"].startswith("3.1")
    assert "/v2/models/{model}/infer" in schema["paths"]
