"""NVIDIA's client, as it comes, against both stacks: only the key is added, by its own plugin."""

import asyncio
import json
from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.acceptance.test_main_path import MODELS, data, direct
from tests.stack import Stack

COMPRESSIONS = (None, "gzip", "deflate")


class Key(triton.InferenceServerClientPlugin):
    """Sends the API key with each request."""

    def __init__(self, stack: Stack) -> None:
        self._header = f"Bearer {stack.api_key}"

    def __call__(self, request: Any) -> None:
        request.headers["Authorization"] = self._header


@pytest.fixture
def client(stack: Stack) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{stack.port}", concurrency=4) as opened:
        opened.register_plugin(Key(stack))
        yield opened


def table(rows: np.ndarray, *, binary: bool) -> list[triton.InferInput]:
    return [tensor("table", rows, binary=binary)]


def columns(rows: np.ndarray, names: list[str], *, binary: bool) -> list[triton.InferInput]:
    """Return one tensor a column, in another order than the model's."""
    found = [tensor(name, rows[:, [i]], binary=binary) for i, name in enumerate(names)]
    return found[::-1]


def tensor(name: str, values: np.ndarray, *, binary: bool) -> triton.InferInput:
    made = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def labels(model: str, probability: np.ndarray) -> list[str]:
    names = [str(name) for name in MODELS[model]().target_names]
    best = probability.argmax(axis=1) if probability.ndim > 1 else (probability >= 0.5).astype(int)
    return [names[i] for i in best]


def cases(rows: np.ndarray, names: list[str]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Return arguments of `infer`, and whether they ask for a binary answer: all ways to send the rows with all ways to
    ask for the answer, each of these pairs with the next pair of compressions."""
    compressions = cycle(product(COMPRESSIONS, COMPRESSIONS))
    for in_binary, dtype, out_binary in product((True, False), (np.float32, np.float64), (None, True, False)):
        values = rows.astype(dtype)
        for inputs in (table(values, binary=in_binary), columns(values, names, binary=in_binary)):
            sent, accepted = next(compressions)
            arguments = {
                "inputs": inputs,
                "outputs": None if out_binary is None else requested(binary=out_binary),
                "request_compression_algorithm": sent,
                "response_compression_algorithm": accepted,
            }
            # Without named outputs this client asks for all of them, in binary.
            yield arguments, out_binary is not False


def requested(*, binary: bool) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in ("label", "probability")]


def assert_equals_direct(result: triton.InferResult, model: str, expected: np.ndarray) -> None:
    assert np.array_equal(result.as_numpy("probability"), expected)
    assert result.as_numpy("label").astype(str).tolist() == labels(model, expected)


@pytest.mark.parametrize("model", MODELS)
def test_every_encoding_of_request_and_answer_gives_the_models_own_prediction(
    client: triton.InferenceServerClient, store: Path, model: str
) -> None:
    rows, names = data(model, 9)
    expected = direct(store, model, rows)
    for arguments, binary_answer in cases(rows, names):
        result = client.infer(model, request_id="mine", **arguments)
        assert_equals_direct(result, model, expected)
        assert result.get_response()["id"] == "mine"
        in_text = [output["name"] for output in result.get_response()["outputs"] if "data" in output]
        assert in_text == ([] if binary_answer else ["label", "probability"])


@pytest.mark.parametrize("model", MODELS)
def test_the_golden_samples_come_out_as_they_are_stored(
    client: triton.InferenceServerClient, store: Path, model: str
) -> None:
    golden = json.loads((store / model / "1" / "golden.json").read_text())
    result = client.infer(model, table(np.array(golden["inputs"], np.float32), binary=True), model_version="1")
    expected = np.array(golden["outputs"]["probability"], np.float32)
    assert np.allclose(result.as_numpy("probability"), expected, rtol=0, atol=1e-5)
    assert [text.decode() for text in result.as_numpy("label")] == golden["outputs"]["label"]


def test_only_the_requested_outputs_come_each_in_its_own_encoding(
    client: triton.InferenceServerClient, store: Path
) -> None:
    rows, _ = data("wine", 3)
    expected = direct(store, "wine", rows)
    inputs = table(rows, binary=True)
    one = client.infer("wine", inputs, outputs=[triton.InferRequestedOutput("label", binary_data=False)])
    assert [output["name"] for output in one.get_response()["outputs"]] == ["label"]
    assert one.get_output("label")["data"] == labels("wine", expected)
    mixed = [triton.InferRequestedOutput("probability"), triton.InferRequestedOutput("label", binary_data=False)]
    result = client.infer("wine", inputs, outputs=mixed)
    assert_equals_direct(result, "wine", expected)
    assert "data" in result.get_output("label")
    assert "data" not in result.get_output("probability")


def test_requests_sent_side_by_side_are_each_answered_with_their_own_result(
    client: triton.InferenceServerClient, stack: Stack, store: Path
) -> None:
    rows, _ = data("breast_cancer", 40)
    expected = direct(store, "breast_cancer", rows)
    each = [table(row[None], binary=i % 2 == 0) for i, row in enumerate(rows)]
    pending = [client.async_infer("breast_cancer", inputs) for inputs in each]
    assert [request.get_result().as_numpy("probability")[0] for request in pending] == expected.tolist()

    async def all_of_them() -> list[triton.InferResult]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{stack.port}") as opened:
            opened.register_plugin(Key(stack))
            return await asyncio.gather(*(opened.infer("breast_cancer", inputs) for inputs in each))

    results = asyncio.run(all_of_them())
    assert [result.as_numpy("probability")[0] for result in results] == expected.tolist()


@pytest.mark.parametrize("model", MODELS)
def test_the_asynchronous_client_gets_the_models_own_prediction(stack: Stack, store: Path, model: str) -> None:
    rows, names = data(model, 9)
    expected = direct(store, model, rows)

    async def ask() -> None:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{stack.port}") as opened:
            opened.register_plugin(Key(stack))
            assert await opened.is_server_live()
            assert await opened.is_server_ready()
            assert await opened.is_model_ready(model)
            assert (await opened.get_model_metadata(model))["name"] == model
            for arguments, _ in cases(rows, names):
                assert_equals_direct(await opened.infer(model, **arguments), model, expected)
            with pytest.raises(InferenceServerException, match="wines") as refused:
                await opened.infer("wines", table(rows, binary=True))
            assert refused.value.status() == "404"

    asyncio.run(ask())


@pytest.mark.parametrize("model", MODELS)
def test_health_metadata_and_configuration_are_those_of_the_model(
    client: triton.InferenceServerClient, model: str
) -> None:
    _, names = data(model, 1)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    assert client.is_model_ready(model, "1")
    assert not client.is_model_ready(model, "99")
    assert not client.is_model_ready("nothing")
    server = client.get_server_metadata()
    assert server["name"] == "inference-portal"
    assert {"binary_tensor_data", "statistics", "model_configuration"} <= set(server["extensions"])
    for version in ("", "1"):
        metadata = client.get_model_metadata(model, version)
        assert [tensor["name"] for tensor in metadata["inputs"]] == names
        assert {tensor["name"]: tensor["datatype"] for tensor in metadata["outputs"]} == {
            "probability": "FP32",
            "label": "BYTES",
        }
        config = client.get_model_config(model, version)
        assert config["name"] == model
        assert [part["name"] for part in config["input"]] == [tensor["name"] for tensor in metadata["inputs"]]
    listed = {entry["name"]: entry for entry in client.get_model_repository_index()}
    assert listed[model] == {"name": model, "version": "1", "state": "READY", "reason": ""}


def test_statistics_count_what_was_done(client: triton.InferenceServerClient) -> None:
    def counted() -> dict[str, Any]:
        (found,) = client.get_inference_statistics("wine", "1")["model_stats"]
        return found

    before = counted()
    rows, _ = data("wine", 7)
    for _ in range(3):
        client.infer("wine", table(rows, binary=True))
    after = counted()
    assert after["inference_count"] - before["inference_count"] == 21
    assert 1 <= after["execution_count"] - before["execution_count"] <= 3
    assert after["last_inference"] > before["last_inference"]
    for part in ("success", "queue", "compute_infer"):
        earlier, later = before["inference_stats"][part], after["inference_stats"][part]
        assert later["count"] - earlier["count"] == 3
        assert 0 < later["ns"] - earlier["ns"] < 60e9, part


def test_refusals_are_the_clients_own_exception_with_the_text(
    client: triton.InferenceServerClient, stack: Stack
) -> None:
    rows, _ = data("wine", 2)
    fits = table(rows, binary=True)
    not_finite = rows.copy()
    not_finite[1, 3] = np.inf
    refusals = [
        ("404", "no model 'nothing'", lambda: client.infer("nothing", fits)),
        ("404", "99", lambda: client.get_model_metadata("wine", "99")),
        ("422", r"expected \[rows, 13\], got \[2, 12\]", lambda: client.infer("wine", table(rows[:, 1:], binary=True))),
        ("422", "row 1, column 'alcalinity_of_ash'", lambda: client.infer("wine", table(not_finite, binary=True))),
        ("422", "no column 'ph'", lambda: client.infer("wine", columns(rows[:, :2], ["alcohol", "ph"], binary=True))),
        ("422", "probability, label", lambda: client.infer("wine", fits, outputs=[triton.InferRequestedOutput("x")])),
        ("504", "goes on", lambda: client.infer("wine", fits, headers={"Prefer": "wait=0"})),
    ]
    for status, text, ask in refusals:
        with pytest.raises(InferenceServerException, match=text) as refused:
            ask()
        assert refused.value.status() == status, refused.value
    with triton.InferenceServerClient(f"127.0.0.1:{stack.port}") as nobody:
        assert nobody.is_server_live()
        with pytest.raises(InferenceServerException, match=r"\w") as refused:
            nobody.infer("wine", fits)
        assert refused.value.status() == "401"


def test_preferences_go_through_its_headers(client: triton.InferenceServerClient, stack: Stack, store: Path) -> None:
    rows, _ = data("wine", 2)
    expected = direct(store, "wine", rows)
    inputs = table(rows, binary=True)
    result = client.infer("wine", inputs, headers={"Prefer": "respond-async, wait=20"})
    assert_equals_direct(result, "wine", expected)
    # To this client only 200 is an answer; what else came is in its exception, as it came.
    with pytest.raises(InferenceServerException) as accepted:
        client.infer("wine", inputs, headers={"Prefer": "respond-async"})
    assert accepted.value.status() == "202"
    path = json.loads(accepted.value.debug_details())["ResultPath"]
    answer = stack.client.get(path, params={"wait": 20})
    length = int(answer.headers["Inference-Header-Content-Length"])
    result = triton.InferenceServerClient.parse_response_body(answer.content, header_length=length)
    assert_equals_direct(result, "wine", expected)
