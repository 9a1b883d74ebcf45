"""The server, its models, its health."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

from inference_portal.api.schemas.components import ref
from inference_portal.api.schemas.parts import (
    AGAIN_UNAVAILABLE,
    ASKED,
    DENIED,
    JSON,
    MODEL,
    PROBLEM,
    UNKNOWN,
    UNREADABLE,
    VERSION,
    json,
    problems,
)

_NO_TYPE = {406: DENIED[406]}
_OF_MODEL = problems(DENIED | UNKNOWN, "V2Problem")


def _open(summary: str, **answer: Any) -> dict[str, Any]:
    return {"tags": ["Server and models"], "summary": summary, "auth": [], **answer}


def _of_model(summary: str, responses: dict[Any, Any], **more: Any) -> dict[str, Any]:
    """Describe a route of models; what is said of a version counts only where the path has one."""
    parameters = [MODEL, VERSION, *ASKED]
    return {
        "tags": ["Server and models"], "summary": summary, "parameters": parameters, "responses": responses, **more
    }  # fmt: skip


SERVER = _open(
    "Server metadata",
    responses={
        (200, JSON): json(
            "Server", "the server", {"name": "inference-portal", "version": "0.1.0", "extensions": ["statistics"]}
        ),
        **problems(_NO_TYPE, "V2Problem"),
    },
)
LIVE = _open(
    "Is the server alive?",
    responses={(200, JSON): json("Live", "it is", {"live": True}), **problems(_NO_TYPE, "V2Problem")},
)
READY = _open(
    "Are requests accepted?",
    parameters=[AGAIN_UNAVAILABLE],
    responses={
        (200, JSON): json("Ready", "they are", {"ready": True}),
        **problems(_NO_TYPE | {503: "no database or no model"}, "V2Problem"),
    },
)
MODEL_METADATA = _of_model(
    "Model metadata",
    {
        (200, JSON): json(
            "Model",
            "inputs and outputs of the model",
            {
                "name": "wine",
                "versions": ["1"],
                "platform": "xgboost",
                "inputs": [{"name": "alcohol", "datatype": "FP32", "shape": [-1]}],
                "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}],
            },
        ),
        **_OF_MODEL,
    },
)
MODEL_READY = _of_model(
    "Can a worker serve the model now?",
    {
        (200, JSON): json("ModelReady", "a worker was heard lately", {"name": "wine", "ready": True}),
        **problems(
            DENIED | UNKNOWN | {503: "no worker was heard lately: requests are accepted and wait; or no database"},
            "V2Problem",
        ),
    },
)
MODEL_CONFIG = _of_model(
    "Model configuration",
    {
        (200, JSON): json(
            "ModelConfig",
            "as Triton has it",
            {
                "name": "wine",
                "platform": "xgboost",
                "backend": "xgboost",
                "version_policy": {"specific": {"versions": [1]}},
                "max_batch_size": 0,
                "input": [{"name": "alcohol", "data_type": "TYPE_FP32", "dims": [-1]}],
                "output": [{"name": "label", "data_type": "TYPE_STRING", "dims": [-1]}],
            },
        ),
        **_OF_MODEL,
    },
)
_PART = {"count": 7, "ns": 42_000_000}
_NOTHING = {"count": 0, "ns": 0}
MODEL_STATS = _of_model(
    "What the model has done",
    {
        (200, JSON): json(
            "ModelStats",
            "sums for each version",
            {
                "model_stats": [
                    {
                        "name": "wine",
                        "version": "1",
                        "last_inference": 1_769_860_800_000,
                        "inference_count": 7,
                        "execution_count": 3,
                        "inference_stats": {
                            "success": _PART,
                            "fail": _NOTHING,
                            "queue": _PART,
                            "compute_input": {"count": 7, "ns": 0},
                            "compute_infer": _PART,
                            "compute_output": {"count": 7, "ns": 0},
                            "cache_hit": _NOTHING,
                            "cache_miss": _NOTHING,
                        },
                        "batch_stats": [],
                    }
                ]
            },
        ),
        **_OF_MODEL,
    },
    description="As Triton has it: counts, and nanoseconds added up. `inference_count` is of rows, `execution_count` "
    "of the calls that predicted them, `success` and `fail` are requests: what failed, was given up or expired is the "
    "latter; cancelled ones are neither.",
)
REPOSITORY_INDEX: dict[str, Any] = {
    "tags": ["Server and models"],
    "summary": "All versions of all models",
    "description": 'With `{"ready": true}` only those that can be served now.',
    "operation_id": "repository_index",
    "parameters": ASKED,
    "request": {JSON: ref("RepositoryIndex")},
    "examples": [OpenApiExample("only what can be served now", {"ready": True}, request_only=True)],
    "responses": {
        (200, JSON): json(
            "RepositoryIndexAnswer",
            "one entry a version",
            [{"name": "wine", "version": "1", "state": "READY", "reason": ""}],
        ),
        **problems(DENIED | UNREADABLE | {422: "'ready' is neither true nor false"}, "V2Problem"),
    },
}
_CHECKS = {"database": "ok", "model_store": "ok", "broker": "ok", "workers": "1 alive", "isolation": "ok"}
_AWAY = {
    "type": "/problems/unavailable",
    "title": "The portal can't do this now",
    "status": 503,
    "detail": "The database is away, try again.",
    "instance": "/readyz",
    "retryable": True,
    **_CHECKS,
    "database": "away",
}
HEALTHZ: dict[str, Any] = {
    "tags": ["Health"],
    "summary": "Is this process alive?",
    "auth": [],
    "responses": {(200, JSON): json("Alive", "alive", {"status": "ok"}), **problems(_NO_TYPE)},
}
READYZ: dict[str, Any] = {
    "tags": ["Health"],
    "summary": "Can it work, and what is missing?",
    "auth": [],
    "parameters": [AGAIN_UNAVAILABLE],
    "responses": {
        (200, JSON): json("Checks", "it can", _CHECKS),
        (503, PROBLEM): json("ChecksFailed", "it can't: a problem, with the checks beside its fields", _AWAY),
        **problems(_NO_TYPE),
    },
}
