"""What the OpenAPI page says about models, their versions and releases."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

from inference_portal.api.schemas.components import ref
from inference_portal.api.schemas.parts import (
    AGAIN,
    ASKED,
    CHALLENGE,
    DENIED,
    FULL,
    JOB_ID,
    JSON,
    UNREADABLE,
    json,
    problems,
)
from inference_portal.api.schemas.parts import MODEL as MODEL_NAME
from inference_portal.api.schemas.parts import VERSION as VERSION_NAME

_SHA256 = "7d1c2a35a0f0e2f8a7d0f9b3f1d0c9b8a7f6e5d4c3b2a190817263544536271a"
_EVENT = {
    "id": 7,
    "at": "2026-01-31T12:00:00.000000Z",
    "who": "ada",
    "reason": "trained on the new harvest",
    "action": "release",
    "model": "wine",
    "version": "2",
    "sha256": _SHA256,
    "template": 2,
    "before": [{"version": "1", "sha256": _SHA256, "weight": 100.0}],
    "after": [
        {"version": "1", "sha256": _SHA256, "weight": 90.0},
        {"version": "2", "sha256": _SHA256, "weight": 10.0},
    ],
    "golden": {"job": JOB_ID, "rows": 5},
}
_MODEL = {
    "name": "wine",
    "description": "Cultivar of a wine from 13 chemical measurements.",
    "versions": ["1", "2"],
    "traffic": [{"version": "1", "weight": 90.0}, {"version": "2", "weight": 10.0}],
    "problems": [],
}
_VERSION = {
    "model": "wine",
    "version": "2",
    "state": "serving",
    "weight": 10.0,
    "ready": True,
    "sha256": _SHA256,
    "template": 2,
    "runtime": "xgboost",
    "pool": "cpu",
    "description": "Cultivar of a wine from 13 chemical measurements.",
}
_TAGS = ["Models"]
_DENIED = DENIED | {403: "not an operator"}
_UNKNOWN = {404: "there is no such model or version"}

MODEL_LIST: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "All models and who takes their traffic",
    "operation_id": "models_list",
    "parameters": ASKED,
    "responses": {(200, JSON): json("Models", "the models by name", {"results": [_MODEL]}), **problems(DENIED)},
}
MODEL: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "One model with its history",
    "description": "`traffic` has the versions that take the requests without a version, in percent; `problems` says "
    "which of them can't. `events` are its releases, rollbacks and retirements, the latest first.",
    "operation_id": "models_detail",
    "parameters": [MODEL_NAME, *ASKED],
    "responses": {
        (200, JSON): json("ModelDetail", "the model", _MODEL | {"events": [_EVENT]}),
        **problems(DENIED | _UNKNOWN),
    },
}
VERSION_LIST: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "A model's versions",
    "description": "`serving` takes requests without a version; `standby` took some before, `new` never did: both are "
    "answered when a request names them. `retired` is not.",
    "operation_id": "models_versions",
    "parameters": [MODEL_NAME, *ASKED],
    "responses": {
        (200, JSON): json("Versions", "in their order", {"results": [_VERSION]}),
        **problems(DENIED | _UNKNOWN),
    },
}
VERSION: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "One version with manifest, signature and proof",
    "description": "`golden_check` says which job answered the golden samples before its last release.",
    "operation_id": "models_version",
    "parameters": [MODEL_NAME, VERSION_NAME, *ASKED],
    "responses": {
        (200, JSON): json(
            "Version",
            "the version",
            _VERSION
            | {
                "manifest": {"template": 2, "model": "wine", "version": "2", "runtime": "xgboost"},
                "signature": {
                    "inputs": [{"name": "alcohol", "datatype": "FP32", "shape": [-1]}],
                    "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}],
                },
                "golden_check": {"job": JOB_ID, "rows": 5, "at": "2026-01-31T12:00:00.000000Z", "who": "ada"},
            },
        ),
        **problems(DENIED | _UNKNOWN),
    },
}
RELEASE: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Give a version traffic",
    "description": "A worker answers its golden samples first, as a job of the caller's team; a difference refuses the "
    "release and is told in `differences`. The other versions share the rest in their old proportion.",
    "operation_id": "models_release",
    "parameters": [MODEL_NAME, VERSION_NAME, AGAIN, CHALLENGE],
    "request": {JSON: ref("Release")},
    "examples": [OpenApiExample("a tenth of the traffic", {"weight": 10, "reason": "new harvest"}, request_only=True)],
    "responses": {
        (200, JSON): json("ReleaseEvent", "released", _EVENT),
        **problems(_DENIED | _UNKNOWN | UNREADABLE | FULL | {422: "the weight or the reason is wrong"}),
        **problems({409: "the golden samples differ, are missing or unanswered; or nobody takes the rest"}, "Refused"),
    },
}
ROLLBACK: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Take the last release back",
    "description": "At once, to the traffic before it. Again: one release further back.",
    "operation_id": "models_rollback",
    "parameters": [MODEL_NAME, *ASKED],
    "request": {JSON: ref("Rollback")},
    "examples": [OpenApiExample("why", {"reason": "too many reds"}, request_only=True)],
    "responses": {
        (200, JSON): json(
            "ReleaseEvent",
            "back",
            _EVENT | {"action": "rollback", "golden": None, "before": _EVENT["after"], "after": _EVENT["before"]},
        ),
        **problems(
            _DENIED
            | _UNKNOWN
            | UNREADABLE
            | {409: "there is no release to take back, or nothing of before is there", 422: "the reason is wrong"}
        ),
    },
}
