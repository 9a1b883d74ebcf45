"""The form that replays a dead letter: which version, and the input, which may be edited as JSON."""

from typing import Any

import orjson
from django import forms
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldBooleanWidget

from inference_portal.catalog.traffic import current
from inference_portal.jobs.models import Job
from inference_portal.jobs.rerun import Read
from inference_portal.jobs.stored_input import StoredInput, stored_input
from inference_portal.limits import request_limits
from inference_portal.store import model_store
from workers.formats import Invalid, Malformed, TooLarge, json_instances

# A larger input is edited by a program.
MAX_CHARACTERS = 100_000
# Lines of the field for the input.
MAX_LINES = 24


class ReplayForm(forms.Form):
    """`reader` is set once valid, if the input is to be read from here."""

    version = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    rows = forms.CharField(label="Input", strip=False, required=False)
    in_order = forms.BooleanField(
        label="They are in the order of the chosen version's columns", required=False, widget=UnfoldBooleanWidget
    )

    def __init__(self, job: Job, data: Any = None) -> None:
        super().__init__(data)
        self.reader: Read | None = None
        served = model_store().snapshot().releases.get(job.model, {})
        retired = current().retired
        # Of the retired ones its own may be chosen: the job was accepted for it.
        offered = [v for v in served if v == job.version or (job.model, v) not in retired]
        versions = sorted(offered, key=int, reverse=True)
        version: Any = self.fields["version"]
        version.choices = [(v, f"{v} (its own)" if v == job.version else v) for v in versions]
        version.initial = job.version
        if job.version not in versions:
            version.help_text = f"Its own, {job.version}, is no longer served."
        kept = stored_input(job)
        self._shown = _text(kept)
        if self._shown is None or kept is None or kept.names is not None:
            del self.fields["in_order"]
        if self._shown is None:
            del self.fields["rows"]
            return
        rows = self.fields["rows"]
        rows.initial = self._shown
        rows.help_text = _help(kept)
        lines = min(self._shown.count("\n") + 1, MAX_LINES)
        rows.widget = UnfoldAdminTextareaWidget(
            attrs={"rows": lines, "class": "portal-code", "spellcheck": "false", "autocomplete": "off"}
        )

    def clean(self) -> dict[str, Any]:
        """Read the input if it was edited, or if somebody says that it fits as it is."""
        values = self.cleaned_data
        text = values.get("rows", "").replace("\r\n", "\n").strip()
        if "rows" in self.fields and (text != self._shown or values.get("in_order")):
            try:
                rows = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                self.add_error("rows", f"This is not JSON: {error}.")
                return values
            limits = request_limits()
            self.reader = lambda release: json_instances.decode(release, rows, limits, key="rows").matrix
        return values

    def add_refusal(self, refusal: Exception) -> None:
        """Say at its field why the replay was refused."""
        match refusal:
            case Invalid():
                for fault in refusal.faults:
                    self._add("version" if fault.pointer == "/version" else "rows", fault.detail)
            case Malformed() | TooLarge():
                self._add("rows", str(refusal))

    def _add(self, field: str, reason: str) -> None:
        self.add_error(field if field in self.fields else None, reason[:1].upper() + reason[1:] + ".")


def _text(kept: StoredInput | None) -> str | None:
    """Return the input as it can be edited; nothing for one that is gone, None for one that is too large."""
    if kept is None:
        return ""
    if kept.matrix.nbytes > MAX_CHARACTERS:
        return None
    if kept.names is None:
        lines = (orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY).decode() for row in kept.rows)
        text = "[\n  " + ",\n  ".join(lines) + "\n]"
    else:
        text = orjson.dumps(kept.rows, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2).decode()
    return text if len(text) <= MAX_CHARACTERS else None


def _help(kept: StoredInput | None) -> str:
    if kept is None:
        return "The input was removed when it grew old: write it again, a list of rows."
    if kept.names is None:
        return (
            "The store no longer has the model file that the job was for, so the columns' names are unknown: write the "
            "rows as the chosen version takes them, by column, or say below that they are right."
        )
    return (
        "One row after the other, by column; null is a missing value. Unchanged, it goes to another version by the "
        "columns' names."
    )
