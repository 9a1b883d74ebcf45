"""From a schedule's `batch` to the batch of one run: addresses are filled in, the deadline is counted."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.batches import fields
from inference_portal.batches.schedules import templates
from inference_portal.batches.schedules.templates import WrongTemplate
from inference_portal.batches.services import batch_new
from workers.formats import Fault, Invalid
from workers.model_store import UnknownModel

# The field in place of `deadline`: each run has its own, so many seconds after it is due.
DEADLINE = "deadline_seconds"
MAX_DEADLINE_SECONDS = 30 * 86_400
# Where names in double braces stand for something.
_ADDRESSES = (("input", "uri"), ("output", "uri"))


def check(batch: Mapping[str, Any], caller: Caller, zone: ZoneInfo) -> None:
    """Raise Invalid, with pointers into the schedule, for what no run could be made of; Unreachable.

    Whether the data is there is for each run to find out.
    """
    faults = []
    if "deadline" in batch:
        faults.append(Fault("/batch/deadline", f"expected '{DEADLINE}' in its place, from when the run is due"))
    for place, name in _ADDRESSES:
        text = batch[place].get(name) if isinstance(batch.get(place), dict) else None
        try:
            templates.check(text if isinstance(text, str) else "")
        except WrongTemplate as wrong:
            faults.append(Fault(f"/batch/{place}/{name}", str(wrong)))
    if faults:
        raise Invalid(*faults)
    now = timezone.now()
    try:
        # Of the services' own checks none is left out: what they take now they take when it is due.
        batch_new(caller=caller, **of_run(batch, due=now, since_last=now, zone=zone))
    except Invalid as invalid:
        raise Invalid(*(Fault(f"/batch{fault.pointer}", fault.detail) for fault in invalid.faults)) from None
    except UnknownModel as unknown:
        named = "version" if batch.get("version") is not None else "model"
        raise Invalid(Fault(f"/batch/{named}", str(unknown))) from None


def of_run(batch: Mapping[str, Any], *, due: datetime, since_last: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """Return what a run asks `batch_new` for. Raises Invalid, with pointers into `batch`."""
    meant = templates.values(due, since_last, zone)
    data = dict(batch)
    for place, name in _ADDRESSES:
        if isinstance(part := data.get(place), dict) and isinstance(text := part.get(name), str):
            data[place] = {**part, name: templates.render(text, meant)}
    seconds = data.pop(DEADLINE, None)
    asked = fields.read_new(data)
    if seconds is not None:
        if type(seconds) not in (int, float) or not 0 < seconds <= MAX_DEADLINE_SECONDS:
            text = f"expected a number of seconds above 0, at most {MAX_DEADLINE_SECONDS:,} (30 days)"
            raise Invalid(Fault(f"/{DEADLINE}", text))
        asked["deadline"] = due + timedelta(seconds=seconds)
    return asked


def of_rehearsal(asked: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return what a rehearsal asks for: a chunk of so many rows, into the system's own storage, whenever it is done."""
    kept = {name: value for name, value in asked.items() if name not in ("deadline", "error_threshold")}
    output = {name: value for name, value in asked.get("output", {}).items() if name != "uri"}
    return kept | {"output": output, "chunk_rows": rows}
