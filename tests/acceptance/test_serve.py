"""`python -m workers.serve`: one model as a server of its own, synchronous and asynchronous, without an engine."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http

from tests.acceptance.test_main_path import data
from tests.container_server import answering, container_server
from tests.serving import serving
from tests.stack import ROOT
from workers.serve import model
from workers.serve.app import create
from workers.serve.options import Options

WINE = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]
INFER = "/v2/models/wine/infer"
BODY = {"instances": [WINE]}


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The wine model."""
    log = tmp_path_factory.mktemp("serve") / "log"
    with (
        serving("wine", "--webhook-hosts", "127.0.0.1", store=store, log=log) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def test_it_answers_as_the_protocol_says(server: httpx.Client) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/wine/ready"):
        assert server.get(path).status_code == 200, path
    metadata = server.get("/v2/models/wine/versions/1").json()
    assert metadata["name"] == "wine" and [each["name"] for each in metadata["outputs"]] == ["probability", "label"]
    answer = server.post(INFER, json=BODY)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["label"] == "class_0"
    assert server.post("/v2/models/other/infer", json=BODY).status_code == 404


def test_tritonclient_can_talk_to_it(server: httpx.Client) -> None:
    rows, _ = data("wine", 3)
    client = tritonclient.http.InferenceServerClient(str(server.base_url).removeprefix("http://").rstrip("/"))
    assert client.is_model_ready("wine")
    table = tritonclient.http.InferInput("table", list(rows.shape), "FP32")
    table.set_data_from_numpy(rows.astype(np.float32))
    assert client.infer("wine", [table]).as_numpy("probability").shape == (3, 3)
    client.close()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b'{"instances": [[1]]}', {}, 422),
        (b"x", {"Content-Type": "image/png"}, 415),
        (b"x", {"Content-Encoding": "gzip"}, 415),
        (b'{"instances": [[1]]}', {"X-Inference-Webhook": "http://169.254.169.254/"}, 422),
        (b'{"instances": [[1]]}', {"X-Inference-Webhook": "http://127.0.0.1@10.0.0.1/"}, 422),
        (b'{"instances": [[1]]}', {"X-Inference-Webhook": "http://[::/"}, 422),
        (b" " * (32 * 2**20 + 1), {}, 413),
    ],
)
def test_bad_input_is_told(server: httpx.Client, body: bytes, headers: dict[str, str], status: int) -> None:
    answer = server.post(INFER, content=body, headers={"Content-Type": "application/json"} | headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


def test_a_task_goes_on_and_tells_its_webhook(server: httpx.Client) -> None:
    with container_server(answering({}, 500), answering({})) as receiver:
        accepted = server.post(
            INFER, json=BODY, headers={"Prefer": "respond-async", "X-Inference-Webhook": receiver.url}
        )
        assert accepted.status_code == 202, accepted.text
        assert accepted.headers["Preference-Applied"] == "respond-async"
        path = accepted.headers["Location"]
        for _ in range(200):
            if (status := server.get(path).json())["state"] != "running":
                break
            time.sleep(0.05)
        assert status["state"] == "succeeded", status
        assert server.get(status["result_path"]).json()["predictions"][0]["label"] == "class_0"
        for _ in range(200):
            if len(receiver.asked) == 2:
                break
            time.sleep(0.05)
        first, second = (asked.json for asked in receiver.asked)
    assert first == second
    assert (second["id"], second["state"]) == (accepted.json()["id"], "succeeded")
    assert second["result"]["predictions"][0]["label"] == "class_0"
    assert server.get("/tasks/unknown").status_code == 404


def test_no_task_fails_because_others_wait(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_STORE", str(store))
    monkeypatch.setenv("SERVE_OPTIONS", Options(model="wine", version="1", threads=1, webhook_hosts=()).to_json())
    monkeypatch.setattr(model, "MOST_WAITING", 2)

    async def ask() -> None:
        transport = httpx.ASGITransport(create())
        async with httpx.AsyncClient(transport=transport, base_url="http://serve") as client:
            answers: list[httpx.Response] = []

            async def asks() -> None:
                for _ in range(30):
                    answers.append(await client.post(INFER, json=BODY, headers={"Prefer": "respond-async"}))

            await asyncio.gather(*(asks() for _ in range(8)))
            assert {answer.status_code for answer in answers} == {202, 503}
            for answer in answers:
                if answer.status_code == 202:
                    while (status := (await client.get(answer.headers["Location"])).json())["state"] == "running":
                        await asyncio.sleep(0.01)
                    assert status["state"] == "succeeded", status

    asyncio.run(asyncio.wait_for(ask(), 60))


def test_a_model_that_is_not_there_is_told_at_once(store: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workers.serve", "--model", "nobody"],
        cwd=ROOT,
        env={"PATH": "", "MODEL_STORE": str(store)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2 and "no model 'nobody' is served here" in done.stderr
