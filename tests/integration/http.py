"""Clients that ask over HTTP, the requests that most tests send, and what every problem has in common."""

import json
from typing import Any
from uuid import uuid4

from django.core.signals import request_finished
from django.db import close_old_connections
from django.test import Client

from inference_portal.accounts.models import ApiKey, Role, Team, User

ROW = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]
BODY = {"instances": [ROW]}
JOB = {"model": "wine", "rows": [ROW]}
INFER = "/v2/models/wine/infer"
JOBS = "/api/jobs/"
ASYNC = {"Prefer": "respond-async"}


def client(team: Team, role: Role = Role.SUBMITTER, **fields: Any) -> Client:
    """Return a client with a key of its own."""
    _, key = ApiKey.objects.create_key(name=f"{role}", team=team, role=role, **fields)
    return Client(headers={"Authorization": f"Bearer {key}"})


def session(team: Team | None, *, csrf: bool = False, **fields: Any) -> Client:
    """Return the browser of a person who has logged in."""
    browser = Client(enforce_csrf_checks=csrf)
    browser.force_login(User.objects.create(username=f"person-{uuid4()}", team=team, **fields))
    return browser


def send(sender: Client, method: str, path: str, body: Any = "", **headers: Any) -> Any:
    """Send a body: text and bytes as they are, anything else as JSON."""
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    kind = headers.pop("content_type", "application/json")
    return sender.generic(method, path, text, kind, headers=headers)


def post(sender: Client, path: str, body: Any = "", **headers: Any) -> Any:
    """Send a POST; see `send`."""
    return send(sender, "POST", path, body, **headers)


def put(sender: Client, path: str, body: Any = "", **headers: Any) -> Any:
    """Send a PUT; see `send`."""
    return send(sender, "PUT", path, body, **headers)


def problem(answer: Any, status: int, slug: str) -> dict[str, Any]:
    """Check that the answer is this problem, whole and in its own type. Returns its fields."""
    assert answer.status_code == status, (answer.status_code, answer.content)
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    check_problem(body, status, slug)
    return body


def check_problem(body: dict[str, Any], status: int, slug: str) -> None:
    """Check the fields that every problem has."""
    assert (body["type"], body["status"]) == (f"/problems/{slug}", status), body
    assert body["title"] and body["detail"] and body["instance"]
    assert isinstance(body["retryable"], bool)


def hang_up(answer: Any) -> None:
    """Close the connection of a stream, as the server does for a client that is gone."""
    # As Django's test client does it: the test's own connection to the database stays.
    request_finished.disconnect(close_old_connections)
    try:
        answer.close()
    finally:
        request_finished.connect(close_old_connections)
