"""New batch: a file or the address of a data set, a model, and how to go about it."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role
from inference_portal.batches import asked, fields
from inference_portal.batches.models import Batch
from inference_portal.batches.models.batch import CHUNK_ROWS
from inference_portal.batches.uploads import CHUNK_BYTES, TooManyBytes, receiving
from inference_portal.console.access import require
from inference_portal.console.model_page import releases
from inference_portal.console.page import page
from inference_portal.console.refusal_form import RefusalForm
from inference_portal.jobs.quota import Full
from workers.datasets import Unreachable
from workers.formats import Invalid
from workers.model_store import UnknownModel

_POLICIES = {
    "partial": "partial: only what failed again",
    "all": "all: the whole run anew",
    "none": "none: what failed stays failed",
}


class NewBatchForm(RefusalForm):
    """The fields of a batch; what is wrong with one is said beside it, in the words of the API."""

    model = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    file = forms.FileField(
        label="Upload a file", required=False, widget=UnfoldAdminFileFieldWidget, allow_empty_file=True
    )
    uri = forms.CharField(
        label="Or the address of a data set",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="store://…, file:///… or s3://…",
    )
    input_format = forms.ChoiceField(
        label="Format of the input", choices=[(f, f) for f in fields.INPUT_FORMATS], widget=UnfoldAdminSelectWidget
    )
    delimiter = forms.CharField(label="Delimiter (CSV)", initial=",", strip=False, widget=UnfoldAdminTextInputWidget)
    encoding = forms.CharField(label="Encoding (CSV)", initial="utf-8", widget=UnfoldAdminTextInputWidget)
    header = forms.BooleanField(
        label="The first line names the columns (CSV)", initial=True, required=False, widget=UnfoldBooleanWidget
    )
    output_format = forms.ChoiceField(
        label="Format of the output", choices=[(f, f) for f in asked.FORMATS], widget=UnfoldAdminSelectWidget
    )
    output_uri = forms.CharField(
        label="Place of the output",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Empty: the system's own storage, from where it can be downloaded.",
    )
    keep_columns = forms.CharField(
        label="Columns to keep",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Columns of the input that stand before the predictions, separated by commas.",
    )
    retry_policy = forms.ChoiceField(
        label="After a failure", choices=list(_POLICIES.items()), widget=UnfoldAdminSelectWidget
    )
    max_attempts = forms.IntegerField(label="Attempts at the most", initial=3, widget=UnfoldAdminIntegerFieldWidget)
    chunk_rows = forms.IntegerField(label="Rows a chunk", initial=CHUNK_ROWS, widget=UnfoldAdminIntegerFieldWidget)
    error_threshold = forms.FloatField(
        label="Share of rows that may fail",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="From 0 to 1; more end the run at once. Empty: any.",
    )
    deadline = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="With a zone, such as 2027-01-31T06:00:00Z. Past it the batch fails. Empty: none.",
    )

    # Where the API would point -> the field here.
    POINTERS = {
        "/version": "model",
        "/input/uri": "uri",
        "/input/format": "input_format",
        "/input/delimiter": "delimiter",
        "/input/encoding": "encoding",
        "/output/uri": "output_uri",
        "/output/format": "output_format",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = [each["manifest"] for each in releases() if each["state"] != "retired"]
        names = sorted({each.model for each in offered})
        model: Any = self.fields["model"]
        model.choices = [
            ("", "Choose a model"),
            *((name, f"{name}: the version that takes the traffic") for name in names),
            *((f"{each.model}:{each.version}", f"{each.model}:{each.version}") for each in offered),
        ]

    def clean(self) -> dict[str, Any]:
        """Look that there is one input."""
        if not self.errors and bool(self.cleaned_data["file"]) == bool(self.cleaned_data["uri"]):
            self.add_error("uri", "Upload a file, or name a data set.")
        return self.cleaned_data

    def asked(self, uri: str) -> dict[str, Any]:
        """Return the fields as the API takes them."""
        values = self.cleaned_data
        model, _, version = values["model"].partition(":")
        return {
            "model": model,
            "version": version or None,
            "input": {
                "uri": uri,
                "format": values["input_format"],
                "delimiter": values["delimiter"],
                "encoding": values["encoding"],
                "header": values["header"],
            },
            "output": {"uri": values["output_uri"] or None, "format": values["output_format"]},
            "keep_columns": [name.strip() for name in values["keep_columns"].split(",") if name.strip()],
            "retry_policy": values["retry_policy"],
            "max_attempts": values["max_attempts"],
            "chunk_rows": values["chunk_rows"],
            "error_threshold": values["error_threshold"],
            "deadline": values["deadline"] or None,
        }


def new(request: HttpRequest) -> HttpResponse:
    """Show the form; a valid one becomes a batch, as if it had come through the API."""
    caller = require(request, Role.SUBMITTER)
    initial = {"uri": request.GET.get("uri", ""), "model": request.GET.get("model", "")}
    form = NewBatchForm(request.POST, request.FILES) if request.method == "POST" else NewBatchForm(initial=initial)
    if form.is_valid():
        batch = _submit(request, form, caller)
        if batch is not None:
            return redirect("admin:batches_batch_change", batch.id)
    limit = f"{settings.MAX_UPLOAD_BYTES / 2**20:,.0f} MiB"
    return page(request, "console/new_batch.html", "New batch", form=form, limit=limit)


def _submit(request: HttpRequest, form: NewBatchForm, caller: Caller) -> Batch | None:
    try:
        uri = form.cleaned_data["uri"]
        if form.cleaned_data["file"]:
            uri = _store(form.cleaned_data["file"], caller)
        return fields.submit(form.asked(uri), caller)
    except Invalid as invalid:
        form.add_refusal(invalid)
    except TooManyBytes as refusal:
        form.add_error("file", str(refusal))
    except (Full, UnknownModel, Unreachable) as refusal:
        messages.warning(request, str(refusal))
    return None


def _store(file: Any, caller: Caller) -> str:
    """Copy what the browser has sent into the storage."""
    with receiving(team_id=caller.team_id, name=file.name, most=settings.MAX_UPLOAD_BYTES) as upload:
        for part in file.chunks(CHUNK_BYTES):
            upload.write(part)
    return upload.uri
