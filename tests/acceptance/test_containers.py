"""Models in containers on the embedded system: a real `workers.serve` is one, others misbehave."""

import csv
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from tests.acceptance import batches
from tests.container_server import Container, answering, container_server, dying, hanging, two_labels
from tests.serving import serving
from tests.stack import Stack, running, wait_for
from tests.unit.builders import manifest_dict

WINE = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]
BODY = {"instances": [WINE]}
ONE = {"instances": [[9, 2, 3]]}
PRICE = {"name": "price", "datatype": "FP32", "shape": [1], "data": [1]}


def box(store: Path, model: str, base: dict[str, Any], url: str, **section: Any) -> None:
    """Write the manifest of a model in a container."""
    place = store / model / "1"
    place.mkdir(parents=True)
    kept = {key: base[key] for key in ("template", "columns", "output")}
    container = {"urls": [url], "timeout_seconds": 2, **section}
    manifest = kept | {"model": model, "version": "1", "runtime": "container", "pool": "container"}
    text = yaml.safe_dump(manifest | {"container": container}, sort_keys=False)
    (place / "manifest.yaml").write_text(text)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """A container that behaves as each test wants it."""
    with container_server(two_labels) as started:
        yield started


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, store: Path, container: Container) -> Iterator[Stack]:
    """The system, with `boxed` in a real container that serves the wine model, and `moody` in that of the tests."""
    folder = tmp_path_factory.mktemp("containers")
    models = folder / "store"
    shutil.copytree(store / "wine", models / "wine")
    wine = yaml.safe_load((models / "wine" / "1" / "manifest.yaml").read_text())
    with serving("wine", store=models, log=folder / "serve.log") as url:
        box(models, "boxed", wine, f"{url}/v2/models/wine/infer", health="/v2/health/ready", timeout_seconds=20)
        box(models, "plain", wine, f"{url}/v2/models/wine/infer", protocol="json")
        box(models, "moody", manifest_dict(), container.url)
        with running(Stack(folder / "run", MODEL_STORE=str(models))) as started:
            started.served_at = url  # type: ignore[attr-defined]
            yield started


@pytest.fixture(autouse=True)
def _as_usual(container: Container) -> None:
    container.behave(two_labels)
    container.asked.clear()


@pytest.mark.parametrize("model", ["boxed", "plain"])
def test_it_answers_as_the_model_in_the_worker_does(stack: Stack, model: str) -> None:
    here = stack.infer("wine", BODY)
    there = stack.infer(model, BODY)
    assert there.status_code == 200, there.text + stack.logs()
    assert there.json() == here.json()
    later = stack.infer(model, BODY, Prefer="respond-async")
    assert later.status_code == 202
    assert stack.result(later).json() == here.json()
    csv = stack.client.post(f"/v2/models/{model}/infer", json=BODY, headers={"Accept": "text/csv", "Prefer": "wait=20"})
    assert csv.status_code == 200 and "class_0" in csv.text


def test_fire_and_forget_and_relay_let_the_container_go_on(stack: Stack) -> None:
    forgotten = stack.infer("boxed", BODY, Prefer="respond-async-proxy")
    assert (forgotten.status_code, forgotten.content) == (202, b"")
    job = forgotten.headers["X-Inference-Id"]
    status = stack.client.get(f"/status/boxed/{job}", params={"wait": 20}).json()
    assert status["State"] == "succeeded", status
    assert stack.client.get(f"/result/boxed/{job}").status_code == 410

    relayed = stack.infer("boxed", BODY, Prefer="respond-async-container")
    assert relayed.status_code == 202, relayed.text + stack.logs()
    task = relayed.json()
    assert stack.client.get(f"/status/boxed/{relayed.headers['X-Inference-Id']}").json()["State"] == "succeeded"
    again = stack.infer(
        "boxed", BODY, Prefer="respond-async-container", X_Inference_Id=relayed.headers["X-Inference-Id"]
    )
    assert (again.status_code, again.json()) == (202, task)
    served_at: str = stack.served_at  # type: ignore[attr-defined]
    for _ in range(100):
        answer = httpx.get(f"{served_at}{task['status_path']}/result")
        if answer.status_code == 200:
            break
        time.sleep(0.05)
    assert answer.json()["predictions"][0]["label"] == "class_0"


@pytest.mark.parametrize(
    ("behaviour", "status", "slug"),
    [
        (answering(b"nonsense"), 502, "container-error"),
        (answering({"outputs": [PRICE]}), 502, "container-error"),
        (answering({"error": "what is this?"}, 400), 422, "bad-data"),
    ],
    ids=["nonsense", "another model's shape", "refused"],
)
def test_what_stays_wrong_fails_at_once(
    stack: Stack, container: Container, behaviour: Any, status: int, slug: str
) -> None:
    container.behave(behaviour)
    answer = stack.infer("moody", ONE, Prefer="wait=20")
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), answer.text + stack.logs()
    assert len(container.asked) == 1


@pytest.mark.parametrize("behaviour", [answering({}, 503), dying, hanging], ids=["busy", "dies in mid-answer", "hangs"])
def test_what_may_be_better_next_time_is_tried_again(stack: Stack, container: Container, behaviour: Any) -> None:
    container.behave(behaviour, two_labels)
    answer = stack.infer("moody", ONE, Prefer="respond-async, wait=25")
    assert answer.status_code == 200, answer.text + stack.logs()
    assert answer.json()["predictions"][0]["label"] == "yes"
    attempts = [asked.headers["X-Inference-Attempt"] for asked in container.asked]
    assert attempts == ["1", "2"]
    job = stack.client.get(f"/api/jobs/{answer.headers['X-Inference-Id']}/").json()
    assert job["attempts"][0]["code"] == "container-unavailable"


def batch(stack: Stack, model: str, rows: list[list[float]], **fields: Any) -> tuple[str, dict[str, Any]]:
    """Run a batch of so many rows in the manifest's columns. Returns its id, and what became of it."""
    manifest = Path(stack.environment["MODEL_STORE"]) / model / "1" / "manifest.yaml"
    names = [column["name"] for column in yaml.safe_load(manifest.read_text())["columns"]]
    lines = [",".join(map(str, line)) for line in ([*names], *rows)]
    uri = batches.upload(stack, "rows.csv", "\n".join(lines).encode())
    begun = batches.begin(stack, uri, model=model, output={"format": "csv"}, **fields)
    return begun, batches.ended(stack, begun)


def test_a_batch_asks_the_container_and_gives_what_the_model_itself_does(stack: Stack) -> None:
    rows = [[value + n / 50 for value in WINE] for n in range(50)]
    outputs = []
    for model in ("wine", "boxed"):
        done, ended = batch(stack, model, rows, chunk_rows=20)
        assert (ended["state"], ended["rows_failed"], ended["chunks"]["done"]) == ("succeeded", 0, 3), ended
        outputs.append(batches.output(stack, done))
    assert outputs[0] == outputs[1]


def test_a_batch_goes_on_when_its_container_died_and_says_why_it_can_not(stack: Stack, container: Container) -> None:
    rows = [[float(n), 2.0, 3.0] for n in range(6)]
    container.behave(dying, two_labels)
    done, ended = batch(stack, "moody", rows, chunk_rows=3)
    assert ended["state"] == "succeeded", ended
    found = list(csv.DictReader(batches.output(stack, done).decode().splitlines()))
    assert [row["label"] for row in found] == ["no"] * 5 + ["yes"]
    np.testing.assert_allclose([float(row["probability"]) for row in found], [n / 10 for n in range(6)], rtol=1e-6)
    attempts = sorted(asked.headers["X-Inference-Attempt"] for asked in container.asked)
    assert attempts == ["1", "1", "2"]
    for behaviour, reason in ((answering(b"nonsense"), "no JSON"), (answering({"error": "no rows"}, 400), "no rows")):
        container.behave(behaviour)
        done, ended = batch(stack, "moody", rows, chunk_rows=3, retry_policy="none")
        assert ended["state"] == "failed" and reason in ended["error"]["message"], ended


def test_a_worker_killed_during_a_call_lets_the_container_see_the_job_twice(stack: Stack, container: Container) -> None:
    container.behave(hanging, two_labels)
    accepted = stack.infer("moody", ONE, Prefer="respond-async")
    wait_for(lambda: container.asked, 20, stack.logs)
    nodes = stack.processes("container@")
    children = [node for node in nodes if node.ppid() in {each.pid for each in nodes}]
    assert children
    for child in children:
        child.kill()
    answer = stack.result(accepted)
    assert answer.status_code == 200, answer.text + stack.logs()
    ids = {asked.headers["X-Inference-Id"] for asked in container.asked}
    assert ids == {accepted.json()["Id"]} and len(container.asked) == 2
