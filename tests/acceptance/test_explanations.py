"""Contributions through the real processes: a worker of their own makes them, and no prediction waits for them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xgboost
import yaml

from tests.acceptance.test_main_path import data, tensors
from tests.stack import Stack, running


@pytest.fixture
def explaining(tmp_path: Path, store: Path) -> Iterator[Stack]:
    """The embedded stack with a wine model that explains up to 5 rows."""
    folder = tmp_path / "store"
    shutil.copytree(store / "wine", folder / "wine")
    path = folder / "wine" / "1" / "manifest.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"explanations": {"max_rows": 5}}))
    with running(Stack(tmp_path / "run", MODEL_STORE=str(folder))) as started:
        yield started


def test_contributions_add_up_to_the_model_s_own_scores(explaining: Stack, store: Path) -> None:
    rows, _ = data("wine", 5)
    table = {"name": "table", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    answer = explaining.infer(
        "wine", {"inputs": [table], "outputs": [{"name": "contributions"}, {"name": "probability"}]}
    )
    assert answer.status_code == 200, answer.text + explaining.logs()
    booster = xgboost.Booster(model_file=store / "wine" / "1" / "model.ubj")
    found = tensors(answer.json())
    assert found["contributions"].shape == (5, 3, 14)
    scores = booster.inplace_predict(rows.astype(np.float32), predict_type="margin")
    np.testing.assert_allclose(found["contributions"].sum(axis=2), scores, atol=1e-4)
    np.testing.assert_array_equal(found["probability"], booster.inplace_predict(rows.astype(np.float32)))

    plain = explaining.infer("wine", {"instances": rows.tolist(), "outputs": ["contributions"]})
    np.testing.assert_array_equal(np.float32(plain.json()["predictions"]), found["contributions"])
    csv = explaining.client.post(
        "/v2/models/wine/infer",
        content=json.dumps({"instances": rows.tolist(), "outputs": ["contributions"]}),
        headers={"Content-Type": "application/json", "Accept": "text/csv"},
    )
    assert csv.status_code == 200, csv.text
    assert len(csv.text.splitlines()[0].split(",")) == 3 * 14

    job = explaining.client.get("/api/jobs/").json()["results"][0]
    receipt = explaining.client.get(f"/api/jobs/{job['id']}/receipt/").json()
    assert receipt["worker"].startswith("explain@"), receipt
