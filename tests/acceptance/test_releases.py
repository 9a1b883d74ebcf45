"""Releases on the running system, while clients ask all the time: a wrong model, a right one, weights, back again."""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xgboost

from tests.stack import Stack, running, wait_for
from tests.unit.builders import COLUMNS, OUTPUTS, train_tiny, write_release

M = "/api/models/m"
ASKERS = 4
GOLDEN = {"file": "golden.json"}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """The embedded system with version 1 of the model `m`."""
    train_tiny(tmp_path / "store", "m", OUTPUTS["two"])
    with running(Stack(tmp_path / "run", MODEL_STORE=str(tmp_path / "store"))) as started:
        yield started


class Load:
    """Clients that wait for a prediction, one after the other, without naming a version."""

    def __init__(self, stack: Stack) -> None:
        self.answers: list[tuple[float, int, str]] = []
        self._stack = stack
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(ASKERS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self) -> None:
        body = {"inputs": [{"name": "t", "shape": [1, 3], "datatype": "FP32", "data": [0.1, 0.2, 0.3]}]}
        headers = {"Authorization": f"Bearer {self._stack.api_key}"}
        with httpx.Client(base_url=self._stack.url, headers=headers, timeout=60) as client:
            while not self._over.is_set():
                asked = time.monotonic()
                answer = client.post("/v2/models/m/infer", json=body)
                version = answer.json()["model_version"] if answer.status_code == 200 else answer.text
                self.answers.append((asked, answer.status_code, version))

    def share(self, version: str, count: int = 200) -> float:
        """Return the part that a version has of the next so many requests, those but for which were asked before."""
        since = time.monotonic() + 1.0

        def asked() -> list[str]:
            return [who for at, _, who in list(self.answers) if at > since]

        wait_for(lambda: len(asked()) >= count, 120, lambda: f"{len(asked())} answers")
        return Counter(asked())[version] / len(asked())


def release(stack: Stack, version: str, **body: Any) -> httpx.Response:
    wait_for(lambda: stack.client.get(f"{M}/versions/{version}/").status_code == 200, 10, lambda: "not seen")
    return stack.client.post(f"{M}/versions/{version}/release/", json=body)


def wrong_model(store: Path, version: str) -> None:
    """Write a version that was trained on something else, with the golden samples of version 1."""
    random = np.random.default_rng(1)
    features = random.normal(size=(60, 3)).astype(np.float32)
    matrix = xgboost.DMatrix(features, label=random.integers(0, 2, 60), feature_names=[c["name"] for c in COLUMNS])
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, matrix, num_boost_round=3)
    artifact = bytes(booster.save_raw("ubj"))
    write_release(store, "m", version, artifact, output=OUTPUTS["two"], golden=GOLDEN)
    shutil.copy(store / "m" / "1" / "golden.json", store / "m" / version / "golden.json")


def test_a_wrong_model_is_refused_a_right_one_gets_its_part_and_no_request_fails(stack: Stack, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with Load(stack) as load:
        assert load.share("1", 50) == 1.0

        wrong_model(store, "2")
        refused = release(stack, "2")
        problem = refused.json()
        assert (refused.status_code, problem["type"]) == (409, "/problems/golden-mismatch"), problem
        assert {each["output"] for each in problem["differences"]} == {"probability"}
        assert all(abs(each["expected"] - each["got"]) > 1e-6 for each in problem["differences"])
        assert load.share("1", 50) == 1.0

        train_tiny(store, "m", OUTPUTS["two"], version="3")
        released = release(stack, "3", weight=30, reason="the right one")
        assert released.status_code == 200, released.text
        # Four standard deviations of 200 requests.
        assert abs(load.share("3") - 0.3) < 0.13

        assert release(stack, "3").json()["after"][0]["weight"] == 100
        assert load.share("3", 50) == 1.0

        assert stack.client.post(f"{M}/rollback/", json={}).status_code == 200
        assert abs(load.share("3") - 0.3) < 0.13
        assert "traffic now: version 1: 100 %" in stack.manage("model", "rollback", "m")
        # Also what another process has done counts within a second.
        assert load.share("1", 50) == 1.0
    assert Counter(status for _, status, _ in load.answers).keys() == {200}
    history = [(each["action"], each["version"]) for each in stack.client.get(f"{M}/").json()["events"]]
    assert history == [("rollback", "3"), ("rollback", "3"), ("release", "3"), ("release", "3")]
    assert stack.client.get("/api/dead-letters/").json()["results"] == []
