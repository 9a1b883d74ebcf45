"""What the OpenAPI page says about deliveries and webhooks."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from inference_portal.api.schemas.components import FILTER, UUID, ref
from inference_portal.api.schemas.parts import (
    ASKED,
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
from inference_portal.deliveries.states import State

_WEBHOOK_ID = "3f0c1d9e-2b1a-4c55-8f3f-0c6a4b8f6f21"
_TIME = "2026-01-31T12:00:00.000000Z"
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="  # noqa: S105
_DELIVERY = {
    "id": "5d5c9d5c-8b0e-4b53-9a39-6b8f8a3f2c10",
    "team": "demo",
    "job": JOB_ID,
    "batch": None,
    "event_id": f"job-{JOB_ID}-1",
    "event_type": "inference.job.succeeded",
    "webhook": _WEBHOOK_ID,
    "sink": None,
    "url": "https://receiver.example/inference",
    "state": "retrying",
    "tries": 1,
    "status": 503,
    "error": "the receiver answered 503",
    "created_at": _TIME,
    "due_at": "2026-01-31T12:00:05.000000Z",
    "finished_at": None,
}
_ATTEMPT = {
    "number": 1,
    "at": _TIME,
    "seconds": 0.012,
    "status": 503,
    "error": "the receiver answered 503",
    "excerpt": "try later",
}
_WEBHOOK = {
    "id": _WEBHOOK_ID,
    "team": "demo",
    "submitted_by": "key demo",
    "url": "https://receiver.example/inference",
    "events": ["inference.job.*"],
    "enabled": True,
    "disabled_reason": "",
    "succeeded_at": None,
    "old_secret_until": None,
    "created_at": _TIME,
}
_WITH_SECRET = _WEBHOOK | {"secret": _SECRET}
_TAGS = ["Deliveries"]
_ONE = at("delivery_id", UUID, "a delivery's id")
_AT = at("webhook_id", UUID, "a webhook's id")
_FAULTS = {422: "a field is wrong; `errors` says which and what was expected"}
_LISTED = DENIED | {400: "the cursor can't be read", 422: "a filter is wrong"}
_EMPTY = {"request": {JSON: ref("Nothing")}, "examples": [OpenApiExample("example", {}, request_only=True)]}


def _example(value: dict[str, Any]) -> list[OpenApiExample]:
    return [OpenApiExample("example", value, request_only=True)]


def _of(summary: str, operation_id: str, **more: Any) -> dict[str, Any]:
    return {"tags": _TAGS, "summary": summary, "operation_id": operation_id, **more}


DELIVERY_LIST = _of(
    "List the team's deliveries, newest first",
    "deliveries_list",
    parameters=[
        query("state", {"type": "string", "enum": [state.value for state in State]}, "how far", "failed"),
        query("event_type", FILTER, "an event's type", "inference.job.succeeded"),
        query("event_id", FILTER, "an event's id", f"job-{JOB_ID}-1"),
        *PAGE,
        *ASKED,
    ],
    responses={(200, JSON): json("Delivery", "a page", _DELIVERY), **problems(_LISTED)},
)
DELIVERY_DETAIL = _of(
    "One delivery with its tries",
    "deliveries_detail",
    parameters=[_ONE, *ASKED],
    responses={
        (200, JSON): json("DeliveryDetail", "the delivery", _DELIVERY | {"attempts": [_ATTEMPT]}),
        **problems(DENIED | UNKNOWN),
    },
)
REDELIVER = _of(
    "Send it again",
    "deliveries_redeliver",
    description="The same event with the same id, without a new inference, and with three days of tries of its own.",
    parameters=[_ONE, *ASKED],
    **_EMPTY,
    responses={
        (202, JSON): json("Delivery", "it waits for the courier", _DELIVERY | {"state": "pending", "due_at": _TIME}),
        **problems(
            DENIED
            | UNKNOWN
            | UNREADABLE
            | {
                409: "it is on its way, its webhook is off, or the result is gone",
                422: "a field that isn't there",
            }
        ),
    },
)
WEBHOOK_LIST = _of(
    "List the team's webhooks, newest first",
    "webhooks_list",
    parameters=[*PAGE, *ASKED],
    responses={(200, JSON): json("Webhook", "a page", _WEBHOOK), **problems(_LISTED)},
)
WEBHOOK_CREATE = _of(
    "Register a webhook",
    "webhooks_create",
    description="It hears of the team's events: of all, or of those that `events` names; a * at the end stands for the "
    "rest. Calls are signed as Standard Webhooks has it. The key is in this answer only.",
    parameters=[answered("Location", [201], {"type": "string"}, "where the webhook is"), *ASKED],
    request={JSON: ref("WebhookCreate")},
    examples=_example({"url": _WEBHOOK["url"], "events": ["inference.job.*"]}),
    responses={
        (201, JSON): json("WebhookWithSecret", "registered", _WITH_SECRET),
        **problems(DENIED | UNREADABLE | _FAULTS),
    },
)
WEBHOOK_DETAIL = _of(
    "One webhook",
    "webhooks_detail",
    parameters=[_AT, *ASKED],
    responses={(200, JSON): json("Webhook", "the webhook", _WEBHOOK), **problems(DENIED | UNKNOWN)},
)
WEBHOOK_PATCH = _of(
    "Change a webhook",
    "webhooks_change",
    description="Turned off, or with another address, it doesn't get what was on its way.",
    parameters=[_AT, *ASKED],
    request={JSON: ref("WebhookChange")},
    examples=_example({"enabled": False}),
    responses={
        (200, JSON): json("Webhook", "changed", _WEBHOOK | {"enabled": False}),
        **problems(DENIED | UNKNOWN | UNREADABLE | _FAULTS),
    },
)
WEBHOOK_DELETE = _of(
    "Remove a webhook",
    "webhooks_delete",
    description="What was on its way isn't sent; the record of its deliveries stays.",
    parameters=[_AT, *ASKED],
    responses={204: OpenApiResponse(description="removed"), **problems(DENIED | UNKNOWN)},
)
WEBHOOK_TEST = _of(
    "Send a test",
    "webhooks_test",
    description="An event of the type `inference.webhook.test`, on the way of all others; look at its delivery.",
    parameters=[_AT, *ASKED],
    **_EMPTY,
    responses={
        (202, JSON): json(
            "Delivery",
            "it waits for the courier",
            _DELIVERY
            | {
                "job": None,
                "event_id": f"test-{JOB_ID}",
                "event_type": "inference.webhook.test",
                "state": "pending",
                "tries": 0,
                "status": None,
                "error": "",
                "due_at": _TIME,
            },
        ),
        **problems(DENIED | UNKNOWN | UNREADABLE | _FAULTS),
    },
)
WEBHOOK_ROTATE = _of(
    "Give a webhook a new key",
    "webhooks_rotate",
    description="For a day calls carry a signature by each of the two keys.",
    parameters=[_AT, *ASKED],
    **_EMPTY,
    responses={
        (200, JSON): json("WebhookWithSecret", "the new key", _WITH_SECRET | {"old_secret_until": _TIME}),
        **problems(DENIED | UNKNOWN | UNREADABLE | _FAULTS),
    },
)
WEBHOOK_SECRET = _of(
    "The team's key",
    "webhooks_secret",
    description="It signs the calls to addresses that single requests name (`X-Inference-Webhook`, `webhook`).",
    parameters=ASKED,
    responses={(200, JSON): json("WebhookSecret", "the key", {"secret": _SECRET}), **problems(DENIED)},
)
