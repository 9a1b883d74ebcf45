"""The form of a schedule: when it is due, and which batch is to run then. What is wrong is said in the API's words."""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

import orjson
from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from inference_portal.batches import asked, fields
from inference_portal.batches.policies import RetryPolicy
from inference_portal.batches.schedules.models import Schedule
from inference_portal.batches.schedules.policy import CatchUp, Overlap
from inference_portal.batches.schedules.request import DEADLINE
from inference_portal.batches.schedules.templates import NAMES
from inference_portal.console.model_page import releases
from workers.formats import Invalid

_PLACES = "Names in double braces stand for the run's: " + ", ".join(f"{{{{ {name} }}}}" for name in NAMES) + "."
_CATCH_UP = {
    CatchUp.LATEST: "latest: only the last one",
    CatchUp.SKIP: "skip: none",
    CatchUp.ALL: "all: one after the other",
}
_POLICIES = {
    RetryPolicy.PARTIAL: "partial: only what failed again",
    RetryPolicy.ALL: "all: the whole run anew",
    RetryPolicy.NONE: "none: the next run does it",
}
_OVERLAP = {Overlap.SKIP: "skip: the next isn't made", Overlap.QUEUE: "queue: the next waits"}


def _text(label: str, *, required: bool = False, **more: Any) -> forms.CharField:
    return forms.CharField(label=label, required=required, widget=UnfoldAdminTextInputWidget, **more)


def _number(label: str, **more: Any) -> forms.IntegerField:
    return forms.IntegerField(label=label, required=False, widget=UnfoldAdminIntegerFieldWidget, **more)


def _choice(label: str, choices: Mapping[Any, str]) -> forms.ChoiceField:
    return forms.ChoiceField(label=label, choices=list(choices.items()), widget=UnfoldAdminSelectWidget)


class ScheduleForm(forms.Form):
    """The fields of a schedule and the usual ones of its batch; the others of these are in `more`."""

    name = _text("Name", required=True)
    model = _choice("Model", {})
    uri = _text("Address of the data set", required=True, help_text=f"store://…, file:///… or s3://…. {_PLACES}")
    cron = _text("Cron line", help_text="Such as 30 2 * * *: minute, hour, day, month and weekday, in local time.")
    every_seconds = _number("Or every so many seconds", help_text="Counted from now.")
    at = _text("Or once, at", help_text="With its offset, such as 2027-01-31T06:00:00Z.")
    timezone = _text("Time zone", required=True, initial="UTC", help_text="Such as Europe/Berlin.")
    catch_up = _choice("Runs that were missed", _CATCH_UP)
    overlap = _choice("While a run is under way", _OVERLAP)
    output_format = _choice("Format of the output", {each: each for each in asked.FORMATS})
    output_uri = _text(
        "Place of the output", help_text="Another one for each run; empty: the system's own storage, for download."
    )
    retry_policy = _choice("After a failure", _POLICIES)
    deadline_seconds = _number("Seconds until it has to be done", help_text="From when it is due. Empty: no deadline.")
    rehearse_before = _number(
        "Rehearse so many seconds before", help_text="Runs a sample ahead, and warns. Empty: no rehearsal."
    )
    rehearse_rows = _number("Rehearse with so many rows", initial=1_000)
    more = forms.CharField(
        label="Other fields of the batch (JSON)",
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text='As the API takes them: {"keep_columns": ["id"], "error_threshold": 0.01}',
    )
    enabled = forms.BooleanField(label="Turned on", required=False, initial=True, widget=UnfoldBooleanWidget)

    # Where the API would point -> the field here.
    POINTERS = {
        "/batch/input/uri": "uri",
        "/batch/output/uri": "output_uri",
        "/batch/output/format": "output_format",
        "/batch/version": "model",
        "/batch/model": "model",
        "/batch/retry_policy": "retry_policy",
        "/batch/deadline_seconds": "deadline_seconds",
        "/rehearsal": "rehearse_before",
        "/rehearsal/before_seconds": "rehearse_before",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = [each["manifest"] for each in releases() if each["state"] != "retired"]
        named = [f"{manifest.model}:{manifest.version}" for manifest in offered]
        choices = [(name, f"{name}: the version that takes the traffic") for name in sorted({m.model for m in offered})]
        model: Any = self.fields["model"]
        model.choices = choices + [(name, name) for name in named]
        # One that is gone is still the schedule's.
        if (kept := self.initial.get("model")) and kept not in dict(model.choices):
            model.choices = [*model.choices, (kept, f"{kept}: isn't there any more")]

    def clean_more(self) -> dict[str, Any]:
        """Return the other fields as an object."""
        try:
            value = orjson.loads(self.cleaned_data["more"] or "{}")
        except orjson.JSONDecodeError as error:
            raise forms.ValidationError(f"This can't be read as JSON: {error}") from error
        if not isinstance(value, dict):
            raise forms.ValidationError("Expected an object in braces.")
        return value

    def asked(self) -> dict[str, Any]:
        """Return the fields as the API takes them."""
        values = self.cleaned_data
        model, _, version = values["model"].partition(":")
        more = dict(values["more"])
        batch = {
            **more,
            "model": model,
            "version": version or None,
            "input": {**_object(more.get("input")), "uri": values["uri"]},
            "output": {**_object(more.get("output")), "format": values["output_format"]},
            "retry_policy": values["retry_policy"],
        }
        if values["output_uri"]:
            batch["output"]["uri"] = values["output_uri"]
        if values["deadline_seconds"] is not None:
            batch[DEADLINE] = values["deadline_seconds"]
        rehearsal = {"before_seconds": values["rehearse_before"], "rows": values["rehearse_rows"] or 1_000}
        return {
            "name": values["name"],
            "cron": values["cron"] or None,
            "every_seconds": values["every_seconds"],
            "at": values["at"] or None,
            "timezone": values["timezone"],
            "catch_up": values["catch_up"],
            "overlap": values["overlap"],
            "batch": {name: value for name, value in batch.items() if value is not None},
            "rehearsal": None if values["rehearse_before"] is None else rehearsal,
            "enabled": values["enabled"],
        }

    def add_refusal(self, invalid: Invalid) -> None:
        """Say at its field what was refused."""
        for fault in invalid.faults:
            name = self.POINTERS.get(fault.pointer, fault.pointer[1:].partition("/")[0])
            field = "more" if name == "batch" else name
            where = f"{fault.pointer.removeprefix('/batch/')}: " if field == "more" else ""
            text = fault.detail[:1].upper() + fault.detail[1:]
            self.add_error(field if field in self.fields else None, f"{where}{text}.")


def values_of(schedule: Schedule) -> dict[str, Any]:
    """Return what the form shows of a schedule."""
    batch = dict(schedule.batch)
    data, output = _object(batch.pop("input", None)), _object(batch.pop("output", None))
    model, version = batch.pop("model", ""), batch.pop("version", None)
    shown = {
        "model": f"{model}:{version}" if version else model,
        "uri": data.pop("uri", ""),
        "output_format": output.pop("format", asked.FORMATS[0]),
        "output_uri": output.pop("uri", None) or "",
        "retry_policy": batch.pop("retry_policy", fields.POLICIES[0]),
        "deadline_seconds": batch.pop(DEADLINE, None),
    }
    more = batch | ({"input": data} if data else {}) | ({"output": output} if output else {})
    rehearsal = schedule.rehearsal or {}
    return shown | {
        "name": schedule.name,
        "cron": schedule.cron,
        "every_seconds": schedule.every_seconds,
        "at": "" if schedule.at is None else schedule.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "timezone": schedule.timezone,
        "catch_up": schedule.catch_up,
        "overlap": schedule.overlap,
        "more": orjson.dumps(more, option=orjson.OPT_INDENT_2).decode() if more else "",
        "rehearse_before": rehearsal.get("before_seconds"),
        "rehearse_rows": rehearsal.get("rows", 1_000),
        "enabled": schedule.enabled,
    }


def _object(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
