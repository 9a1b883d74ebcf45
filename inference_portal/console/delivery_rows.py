"""Deliveries as short tables show them: on the pages of a webhook and of a job."""

from collections.abc import Iterable
from typing import Any

from inference_portal.console.times import moment_text
from inference_portal.deliveries.models import Delivery
from inference_portal.deliveries.states import State

COLOURS = {
    State.PENDING.value: "info",
    State.DELIVERING.value: "info",
    State.RETRYING.value: "warning",
    State.DELIVERED.value: "success",
    State.FAILED.value: "danger",
    State.DISABLED.value: "",
}


def delivery_label(delivery: Delivery) -> dict[str, str]:
    """Return the state as a coloured label."""
    return {"type": COLOURS[delivery.state], "text": delivery.state}


def answer_text(delivery: Delivery) -> str:
    """Return what the last try gave; a dash before the first."""
    return delivery.error or (f"{delivery.status}" if delivery.status else "–")


def delivery_rows(deliveries: Iterable[Delivery]) -> list[dict[str, Any]]:
    """Return the texts of the table."""
    return [
        {
            "id": each.id,
            "label": delivery_label(each),
            "event": each.event_type,
            "to": each.host,
            "tries": each.tries,
            "answer": answer_text(each),
            "due": moment_text(each.due_at),
            "created": moment_text(each.created_at),
        }
        for each in deliveries
    ]
