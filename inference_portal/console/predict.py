"""New prediction: choose a model, fill in one row, and look at the job that this makes."""

from uuid import uuid4

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from inference_portal.accounts.models import Role
from inference_portal.catalog.traffic import choose as choose_release
from inference_portal.console.access import require
from inference_portal.console.model_page import releases
from inference_portal.console.page import page
from inference_portal.console.prediction_form import PredictionForm, example
from inference_portal.deliveries.sinks.choice import choose as choose_sink
from inference_portal.jobs.quota import Full
from inference_portal.jobs.repeats import Identity
from inference_portal.jobs.services import job_accept, job_new
from workers.model_store import UnknownModel

# Nobody fills in more; such a model is for programs.
MAX_FIELDS = 500


def choose(request: HttpRequest) -> HttpResponse:
    """Offer the served models."""
    require(request, Role.SUBMITTER)
    offered = [each for each in releases() if each["state"] != "retired"]
    return page(request, "console/choose.html", "New prediction", releases=offered)


def predict(request: HttpRequest, model: str, version: str) -> HttpResponse:
    """Show the form of one release; a valid one becomes a job, as if it had come through the API."""
    caller = require(request, Role.SUBMITTER)
    try:
        release = choose_release(model, version)
    except UnknownModel:
        messages.warning(request, f"{model}:{version} is not served here.")
        return redirect("admin:predict")
    if len(release.manifest.columns) > MAX_FIELDS:
        messages.warning(request, f"{model} has {len(release.manifest.columns):,} columns; use the API for it.")
        return redirect("admin:predict")
    sample = example(release)
    initial = sample if "example" in request.GET else None
    form = PredictionForm(release, request.POST if request.method == "POST" else None, initial)
    if form.is_valid() and form.decoded is not None:
        job = job_new(
            caller=caller,
            release=release,
            decoded=form.decoded,
            identity=Identity(""),
            job_id=uuid4(),
            sink=choose_sink("", release, caller),
        )
        try:
            job_accept(job=job)
        except Full as full:
            messages.warning(request, f"{full} Try again in {full.retry_after} s.")
            return redirect("admin:predict")
        return redirect("admin:jobs_job_change", job.id)
    title = f"New prediction: {model}:{version}"
    return page(
        request, "console/predict.html", title, form=form, manifest=release.manifest, has_example=sample is not None
    )
