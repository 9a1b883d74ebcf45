"""V2's integers, booleans and texts, in JSON and as raw bytes, to a model that has a column of categories."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xgboost
from django.test import Client

from inference_portal.store import model_store
from tests.integration.http import post
from tests.integration.work import at_work
from tests.unit.builders import OUTPUTS, train_tiny
from tests.unit.formats.bodies import as_binary, texts
from workers import tasks
from workers.formats.v2_binary import DTYPES
from workers.loaded_models import LoadedModels
from workers.model_store import ModelStore

pytestmark = pytest.mark.django_db(transaction=True)
COLUMNS = [
    {"name": "number"},
    {"name": "flag"},
    {"name": "colour", "type": "category", "categories": ["red", "grün", "blue"], "missing": True},
]
COLOURS = ["blue", "grün", "red"]
INTEGERS = [name for name in DTYPES if "INT" in name]
INFER = "/v2/models/colours/infer"


@pytest.fixture
def booster(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[xgboost.Booster]:
    """A model with texts that the portal serves and the workers run; itself, to be called directly."""
    manifest = train_tiny(tmp_path, "colours", OUTPUTS["number"], columns=COLUMNS)
    settings.MODEL_STORE = tmp_path
    store = ModelStore(tmp_path)
    monkeypatch.setattr(tasks, "_store", store)
    monkeypatch.setattr(tasks, "_models", LoadedModels(store))
    model_store.cache_clear()
    yield xgboost.Booster(model_file=str(manifest.parent / "model.ubj"))
    model_store.cache_clear()


def predicted(booster: xgboost.Booster, numbers: list[int]) -> npt.NDArray[np.float32]:
    matrix = np.array([[number, i % 2, 2 - i] for i, number in enumerate(numbers)], "<f4")
    result: npt.NDArray[np.float32] = booster.inplace_predict(matrix)
    return result


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_booleans_and_texts_reach_the_model(
    submitter: Client, booster: xgboost.Booster, datatype: str
) -> None:
    limits = np.iinfo(DTYPES[datatype])
    numbers = [max(int(limits.min), -(2**24)), 0, min(int(limits.max), 2**24)]
    data = {"number": numbers, "flag": [False, True, False], "colour": COLOURS}
    types = {"number": datatype, "flag": "BOOL", "colour": "BYTES"}
    inputs = [{"name": name, "datatype": types[name], "shape": [3], "data": data[name]} for name in data]
    raw = as_binary(
        [
            ("number", datatype, [3], np.array(numbers, DTYPES[datatype]).tobytes()),
            ("flag", "BOOL", [3, 1], b"\0\1\0"),
            ("colour", "BYTES", [3], texts(*COLOURS)),
        ]
    )
    assert len(set(predicted(booster, numbers).tolist())) > 1
    length = {"Inference-Header-Content-Length": raw.sent.header_length or ""}
    with at_work():
        for answer in (
            post(submitter, INFER, {"inputs": inputs}),
            post(submitter, INFER, raw.data, content_type=raw.sent.content_type, Accept="application/json", **length),
        ):
            assert answer.status_code == 200, answer.content
            (output,) = json.loads(answer.content)["outputs"]
            np.testing.assert_array_equal(np.array(output["data"], np.float32), predicted(booster, numbers))
