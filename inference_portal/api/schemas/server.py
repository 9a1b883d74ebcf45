"""The server, its models, its health."""

from typing import Any

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers as s

from inference_portal.api.schemas.parts import DENIED, UNKNOWN, json, problem

Live = inline_serializer("Live", {"live": s.BooleanField()})
Ready = inline_serializer("Ready", {"ready": s.BooleanField()})

SERVER: dict[str, Any] = {
    "tags": ["Server and models"],
    "summary": "Server metadata",
    "auth": [],
    "responses": {
        200: json("the server", "server", {"name": "inference-portal", "version": "0.1.0", "extensions": []})
    },
}
LIVE: dict[str, Any] = {
    "tags": ["Server and models"],
    "summary": "Is the server alive?",
    "auth": [],
    "responses": {200: Live},
}
READY: dict[str, Any] = {
    "tags": ["Server and models"],
    "summary": "Are requests accepted?",
    "auth": [],
    "responses": {200: Ready, 503: problem("no database or no model")},
}
MODEL: dict[str, Any] = {
    "tags": ["Server and models"],
    "summary": "Model metadata",
    "responses": {
        200: json(
            "inputs and outputs of the model",
            "metadata",
            {
                "name": "wine",
                "versions": ["1"],
                "platform": "xgboost",
                "inputs": [{"name": "alcohol", "datatype": "FP32", "shape": [-1]}],
                "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}],
            },
        ),
        **DENIED,
        **UNKNOWN,
    },
}
MODEL_READY: dict[str, Any] = {
    "tags": ["Server and models"],
    "summary": "Can a worker serve the model now?",
    "responses": {
        200: json("a worker was heard lately", "ready", {"name": "wine", "ready": True}),
        **DENIED,
        **UNKNOWN,
        503: problem("no worker was heard lately; requests are accepted and wait"),
    },
}
_CHECKS = {"database": "ok", "model_store": "ok", "broker": "ok", "workers": "1 alive", "isolation": "ok"}
HEALTHZ: dict[str, Any] = {
    "tags": ["Health"],
    "summary": "Is this process alive?",
    "auth": [],
    "responses": {200: json("alive", "alive", {"status": "ok"})},
}
READYZ: dict[str, Any] = {
    "tags": ["Health"],
    "summary": "Can it work, and what is missing?",
    "auth": [],
    "responses": {
        200: json("it can", "ready", _CHECKS),
        503: json("it can't", "not ready", {**_CHECKS, "database": "away"}),
    },
}
