"""The published JSON Schema: it is the code's, each key is explained, and it knows right manifests from wrong ones."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.unit.builders import manifest_dict
from workers.template.json_schema import FILE, json_schema

SCHEMA = json.loads(json_schema())
CHECK = jsonschema.Draft202012Validator(SCHEMA)


def test_the_published_schema_is_the_code_s(store: Path) -> None:
    assert (store / FILE).read_text() == json_schema(), "python -m workers.template.json_schema > models_store/" + FILE


def test_it_is_a_schema_without_an_id_that_explains_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert "$id" not in SCHEMA
    parts = {"Manifest": SCHEMA} | SCHEMA["$defs"]
    unexplained = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, value in part["properties"].items()
        if "description" not in value and key not in ("step", "method")
    ]
    assert unexplained == []
    assert [name for name, part in parts.items() if "description" not in part] == []


@pytest.mark.parametrize("model", ["breast_cancer", "churn", "diabetes", "wine"])
def test_the_shipped_manifests_are_valid_and_name_the_schema(store: Path, model: str) -> None:
    text = (store / model / "1" / "manifest.yaml").read_text()
    CHECK.validate(yaml.safe_load(text))
    first = text.partition("\n")[0]
    assert first == f"# yaml-language-server: $schema=../../{FILE}"


STEPS: list[dict[str, Any]] = [
    {"step": "select", "columns": ["a", "c"]},
    {"step": "log", "columns": ["a"], "plus": 1},
    {"step": "codes", "column": "c", "codes": {"x": 1}},
    {"step": "custom", "call": "package.module:function", "columns": ["a"], "returns": ["b"]},
]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"version": 7},
        {"preprocessing": STEPS},
        {
            "output": {
                "kind": "binary",
                "labels": ["n", "y"],
                "calibration": {"method": "platt", "slope": 1, "intercept": 0},
            }
        },
        {"columns": [{"name": "Größe – 日本"}], "golden": {"file": "golden.json"}},
    ],
    ids=str,
)
def test_a_right_manifest_is_valid(changes: dict[str, Any]) -> None:
    CHECK.validate(manifest_dict(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"template": 1},
        {"modle": "m"},
        {"model": ...},
        {"version": 0},
        {"version": "01"},
        {"columns": []},
        {"columns": [{"name": "a\nb"}]},
        {"columns": [{"name": ""}]},
        {"golden": "golden.json"},
        {"preprocessing": [{"step": "pca", "columns": ["a"]}]},
        {"preprocessing": [{"step": "log"}]},
        {"output": {"kind": "binary", "calibration": {"method": "beta"}}},
    ],
    ids=str,
)
def test_a_wrong_manifest_is_not(changes: dict[str, Any]) -> None:
    assert not CHECK.is_valid(manifest_dict(**changes))
