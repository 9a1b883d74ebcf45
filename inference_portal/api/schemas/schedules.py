"""What the OpenAPI page says about schedules and their runs."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from inference_portal.api.schemas.components import FILTER, UUID, ref
from inference_portal.api.schemas.parts import (
    AGAIN_UNAVAILABLE,
    ASKED,
    CHALLENGE,
    DENIED,
    JOB_ID,
    JSON,
    PAGE,
    UNKNOWN,
    UNREADABLE,
    answered,
    at,
    json,
    problems,
    query,
)
from inference_portal.batches.schedules.models import Kind, Outcome

_ID = "7c1f3c5e-8a1b-4f0e-9b62-2a9e9f0a7d11"
_BATCH = {
    "model": "wine",
    "input": {"uri": "s3://lake/wines/day={{ day }}/"},
    "output": {"uri": "s3://lake/scored/{{ day }}.parquet", "format": "parquet"},
    "retry_policy": "none",
    "deadline_seconds": 14_400,
}
_ASKED = {
    "name": "nightly",
    "cron": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "batch": _BATCH,
    "catch_up": "latest",
    "overlap": "skip",
    "rehearsal": {"before_seconds": 21_600, "rows": 1_000},
    "enabled": True,
}
_SCHEDULE = {
    "id": _ID,
    "team": "demo",
    "submitted_by": "key demo",
    **_ASKED,
    "every_seconds": None,
    "at": None,
    "created_at": "2026-01-30T12:00:00.000000Z",
    "last_due_at": "2026-01-31T01:30:00Z",
    "next_due_at": "2026-02-01T01:30:00Z",
    "next_rehearsal_at": "2026-01-31T19:30:00Z",
}
_DETAIL = _SCHEDULE | {"upcoming": ["2026-02-01T01:30:00Z", "2026-02-02T01:30:00Z"]}
_RUN = {
    "due_at": "2026-01-31T01:30:00Z",
    "kind": "planned",
    "outcome": "made",
    "why": "",
    "warnings": [],
    "batch": JOB_ID,
    "state": "succeeded",
    "decided_at": "2026-01-31T01:30:02.000000Z",
    "made_at": "2026-01-31T01:30:02.000000Z",
}
_TAGS = ["Schedules"]
_AT = at("schedule_id", UUID, "a schedule's id", _ID)
_FAULTS = {422: "a field is wrong; `errors` says which and what was expected"}
_PLACE = answered("Location", [201], {"type": "string"}, "where the schedule is")
_TEXT = (
    "One of `cron` (minute, hour, day, month, weekday, in the local time of `timezone`), `every_seconds` and `at` "
    "(once) says when. `batch` is what `POST /api/batches/` takes; in its addresses `{{ day }}`, `{{ yesterday }}`, "
    "`{{ year }}`, `{{ month }}`, `{{ hour }}`, `{{ due }}` and `{{ since_last }}` stand for the run's, and "
    "`deadline_seconds`, from when it is due, is in the place of `deadline`."
)


def _example(value: dict[str, Any]) -> list[OpenApiExample]:
    return [OpenApiExample("example", value, request_only=True)]


SCHEDULE_LIST: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "List the team's schedules, newest first",
    "operation_id": "schedules_list",
    "parameters": [query("name", FILTER, "a schedule's name", "nightly"), *PAGE, *ASKED],
    "responses": {
        (200, JSON): json("Schedule", "a page", _SCHEDULE),
        **problems(DENIED | {400: "the cursor can't be read", 422: "a filter is wrong"}),
    },
}
SCHEDULE_CREATE: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Make a schedule",
    "description": _TEXT,
    "operation_id": "schedules_create",
    "parameters": [_PLACE, *ASKED],
    "request": {JSON: ref("ScheduleCreate")},
    "examples": _example(_ASKED),
    "responses": {
        (201, JSON): json("ScheduleDetail", "made", _DETAIL),
        **problems(DENIED | UNREADABLE | _FAULTS),
    },
}
SCHEDULE_DETAIL: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "One schedule with its next instants",
    "operation_id": "schedules_detail",
    "parameters": [_AT, *ASKED],
    "responses": {(200, JSON): json("ScheduleDetail", "the schedule", _DETAIL), **problems(DENIED | UNKNOWN)},
}
SCHEDULE_PUT: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Put another schedule in its place",
    "description": f"{_TEXT} A new time counts from now on.",
    "operation_id": "schedules_replace",
    "parameters": [_AT, *ASKED],
    "request": {JSON: ref("ScheduleCreate")},
    "examples": _example(_ASKED),
    "responses": {
        (200, JSON): json("ScheduleDetail", "changed", _DETAIL),
        **problems(DENIED | UNKNOWN | UNREADABLE | _FAULTS),
    },
}
SCHEDULE_PATCH: dict[str, Any] = SCHEDULE_PUT | {
    "summary": "Change a schedule",
    "description": "What the body names; one of `cron`, `every_seconds` and `at` takes the place of the one before. A "
    "new time counts from now on: what was due while the schedule was turned off isn't caught up on.",
    "operation_id": "schedules_change",
    "request": {JSON: ref("ScheduleChange")},
    "examples": _example({"enabled": False}),
}
SCHEDULE_DELETE: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Remove a schedule",
    "description": "With the list of its runs. Their batches stay, and run on.",
    "operation_id": "schedules_delete",
    "parameters": [_AT, *ASKED],
    "responses": {204: OpenApiResponse(description="removed"), **problems(DENIED | UNKNOWN)},
}
RUN_LIST: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "A schedule's runs, those that are due last first",
    "description": "Also what was skipped, with the reason, and what could not be made (refused).",
    "operation_id": "schedules_runs",
    "parameters": [
        _AT,
        query("outcome", {"type": "string", "enum": Outcome.values}, "what became of it", "skipped"),
        query("kind", {"type": "string", "enum": Kind.values}, "why there is one", "rehearsal"),
        *PAGE,
        *ASKED,
    ],
    "responses": {
        (200, JSON): json("ScheduleRun", "a page", _RUN),
        **problems(DENIED | UNKNOWN | {400: "the cursor can't be read", 422: "a filter is wrong"}),
    },
}
RUN_NOW: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Run it now",
    "description": "Beside what is planned. It is due now, in its addresses, too; where runs queue it may wait.",
    "operation_id": "schedules_run_now",
    "parameters": [_AT, AGAIN_UNAVAILABLE, CHALLENGE],
    "request": {JSON: ref("RunNow")},
    "examples": _example({}),
    "responses": {
        (202, JSON): json("ScheduleRun", "made, or waiting", _RUN | {"kind": "manual", "state": "queued"}),
        **problems(
            DENIED
            | UNKNOWN
            | UNREADABLE
            | {409: "a run is under way, and they may not overlap", 422: "its batch can't be made as things are"}
        ),
    },
}
