"""Processes are killed at the worst moments; what was accepted is finished, once, with the right prediction."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests import services
from tests.acceptance.test_main_path import data, direct
from tests.stack import Stack, running, wait_for

QUICK = {"LEASE_SECONDS": "2", "CLAIM_SECONDS": "2"}
EVERY_WINDOW = (
    "portal.after_commit",
    "dispatcher.after_claim",
    "dispatcher.before_publish",
    "dispatcher.after_publish",
    "worker.before_predict",
    "worker.after_predict",
    "worker.before_ack",
    "recorder.before_commit",
    "recorder.after_commit",
)


@pytest.fixture(scope="module")
def quick_store(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """The models with short time-outs and many attempts, so that the sweep is seen to work within seconds."""
    copy = tmp_path_factory.mktemp("store")
    for manifest in store.glob("*/1/manifest.yaml"):
        folder = copy / manifest.parent.relative_to(store)
        shutil.copytree(manifest.parent, folder)
        text = manifest.read_text()
        old = "policy: {attempts: 3, backoff_seconds: 1.0, timeout_seconds: 30.0}"
        assert old in text
        (folder / "manifest.yaml").write_text(
            text.replace(old, "policy: {attempts: 10, backoff_seconds: 0.1, timeout_seconds: 2.0}")
        )
    return copy


@pytest.fixture(params=["embedded", "full"])
def own_stack(request: pytest.FixtureRequest, tmp_path: Path, quick_store: Path) -> Iterator[Stack]:
    """A stack for one test."""
    variables = QUICK | {"MODEL_STORE": str(quick_store), "START_BATCH": "0"}
    variables["FAILPOINTS"] = getattr(request.function, "failpoints", "")
    with ExitStack() as context:
        if request.param == "full":
            server = request.getfixturevalue("postgres")
            node = request.getfixturevalue("rabbitmq")
            variables["database_url"] = context.enter_context(services.migrated_database(server))
            variables["broker_url"] = context.enter_context(services.virtual_host(node))
        yield context.enter_context(running(Stack(tmp_path / "run", **variables)))


def failpoints(text: str):  # type: ignore[no-untyped-def]
    """Give the test's stack these failpoints."""

    def mark(function):  # type: ignore[no-untyped-def]
        function.failpoints = text
        return function

    return mark


def submit(stack: Stack, rows: np.ndarray) -> list[httpx.Response]:
    answers = [stack.infer("wine", {"instances": [row.tolist()]}, Prefer="respond-async") for row in rows]
    assert [a.status_code for a in answers] == [202] * len(rows)
    return answers


def answers_again(stack: Stack) -> bool:
    try:
        return stack.client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def all_right(stack: Stack, answers: list[httpx.Response], expected: np.ndarray) -> None:
    for answer, probability in zip(answers, expected, strict=True):
        result = stack.result(answer, seconds=90)
        assert result.status_code == 200, result.text + stack.logs()
        got = np.array(result.json()["predictions"][0]["probability"], dtype=np.float32)
        assert np.array_equal(got, probability)


@failpoints(",".join(f"{name}=kill" for name in EVERY_WINDOW))
def test_a_kill_in_every_window_loses_nothing(own_stack: Stack, store: Path) -> None:
    rows, _ = data("wine", 60)
    # The portal dies once it has stored the first job and before it has answered.
    with pytest.raises(httpx.TransportError):
        own_stack.infer("wine", {"instances": rows[:1].tolist()}, Prefer="respond-async")
    wait_for(lambda: answers_again(own_stack), 30, own_stack.logs)
    answers = []
    for part in np.array_split(rows, 12):
        answers += submit(own_stack, part)
        time.sleep(0.2)
    all_right(own_stack, answers, direct(store, "wine", rows))
    states = [job["state"] for job in own_stack.client.get("/api/jobs/", params={"page_size": 500}).json()["results"]]
    assert states == ["succeeded"] * (len(rows) + 1)
    fired = {path.name.removeprefix("failpoint.") for path in own_stack.folder.glob("failpoint.*")}
    assert fired == set(EVERY_WINDOW)


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(
    postgres: str, tmp_path: Path, quick_store: Path, store: Path
) -> None:
    rows, _ = data("wine", 90)
    variables = QUICK | {"MODEL_STORE": str(quick_store)}
    with (
        services.rabbitmq_server() as node,
        services.migrated_database(postgres) as database,
        running(Stack(tmp_path / "run", database_url=database, broker_url=node.url(), **variables)) as stack,
    ):
        answers = submit(stack, rows[:30])
        node.kill9()
        # The portal never talks to the broker: it goes on accepting.
        answers += submit(stack, rows[30:60])
        node.start()
        answers += submit(stack, rows[60:])
        all_right(stack, answers, direct(store, "wine", rows))


@failpoints("worker.before_predict=sleep:5")
def test_a_worker_killed_in_mid_job_loses_nothing_and_is_shown_running_before(own_stack: Stack, store: Path) -> None:
    rows, _ = data("wine", 10)
    answers = submit(own_stack, rows)
    path = answers[0].json()["StatusPath"]
    wait_for(lambda: own_stack.client.get(path).json()["State"] == "running", 20, own_stack.logs)
    victims = own_stack.processes("-n cpu@")
    assert len(victims) == 3  # the parent and two children
    for victim in victims:
        victim.kill()
    all_right(own_stack, answers, direct(store, "wine", rows))


# On RabbitMQ one of the poisons of test_poison.py hangs.
@pytest.mark.parametrize("own_stack", ["embedded"], indirect=True)
@failpoints("worker.before_predict=sleep:300")
def test_a_predict_that_hangs_is_ended_by_its_models_time_out_and_tried_again(own_stack: Stack, store: Path) -> None:
    rows, _ = data("wine", 3)
    answers = submit(own_stack, rows)
    all_right(own_stack, answers, direct(store, "wine", rows))
    statuses = [own_stack.client.get(answer.json()["StatusPath"]).json() for answer in answers]
    assert max(status["Attempts"] for status in statuses) == 2


def test_killing_the_whole_system_and_starting_it_again_loses_nothing_and_ctrl_c_stops_it(
    own_stack: Stack, store: Path
) -> None:
    rows, _ = data("wine", 178)
    accepted: list[tuple[int, httpx.Response]] = []

    def flood() -> None:
        for i, row in enumerate(rows):
            try:
                answer = own_stack.infer("wine", {"instances": [row.tolist()]}, Prefer="respond-async")
            except httpx.TransportError:
                return  # killed meanwhile: never accepted
            accepted.append((i, answer))

    thread = threading.Thread(target=flood)
    thread.start()
    wait_for(lambda: len(accepted) > 40, 30, own_stack.logs)
    own_stack.kill_everything()
    thread.join()
    own_stack.client.close()
    own_stack.start()
    expected = direct(store, "wine", rows)
    all_right(own_stack, [answer for _, answer in accepted], expected[[i for i, _ in accepted]])
    assert len(own_stack.processes()) >= 7
    assert own_stack.stop() == 0
    assert own_stack.processes() == []
