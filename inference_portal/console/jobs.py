"""Jobs: the list, a job's page, and the buttons that cancel it or run it again."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from unfold.paginator import InfinitePaginator

from inference_portal.accounts.models import Role
from inference_portal.console import job_page
from inference_portal.console.access import require
from inference_portal.console.column import column, one_line
from inference_portal.console.job_filters import AcceptedFilter, ModelFilter, StateFilter, VersionFilter
from inference_portal.console.job_list import JobList
from inference_portal.console.page import page
from inference_portal.console.state_labels import STATE_COLOURS, state_text
from inference_portal.console.times import duration_text, moment_text
from inference_portal.jobs.models import Job
from inference_portal.jobs.quota import Full
from inference_portal.jobs.rerun import NotWaiting, rerun
from inference_portal.jobs.services import job_cancel
from workers.formats import Invalid


class JobAdmin(JobList):
    """Read-only: jobs come from the API and from "New prediction"."""

    # Counting millions of rows would take longer than reading a page of them.
    paginator = InfinitePaginator
    ordering = ("-accepted_at",)
    actions = None
    list_filter = (StateFilter, ModelFilter, VersionFilter, ("accepted_at", AcceptedFilter))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Return the jobs that exist for the caller, without their payload."""
        jobs = Job.objects.visible_to(require(request, Role.VIEWER)).without_payload().select_related("team")
        # The steps of batches are reached from those, and found by their ids.
        match = request.resolver_match
        is_list = match is not None and match.url_name == "jobs_job_changelist" and not request.GET.get("q")
        return jobs.requests() if is_list else jobs

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns; the team is for those who see several."""
        team = ["team"] if require(request, Role.VIEWER).sees_all_teams else []
        return ["job", "state_label", "release", "rows", "attempt", *team, "submitted_by", "accepted", "duration"]

    @column("State", label=STATE_COLOURS)
    def state_label(self, job: Job) -> tuple[str, str]:
        """Return the state as a coloured label."""
        return job.state, state_text(job.state)

    @column("Accepted (UTC)")
    def accepted(self, job: Job) -> str:
        """Return when it was accepted."""
        return one_line(moment_text(job.accepted_at))

    @column("Duration")
    def duration(self, job: Job) -> str:
        """Return the time from acceptance to the end."""
        return duration_text(job.accepted_at, job.finished_at)

    def get_urls(self) -> list[URLPattern]:
        """Return the routes."""
        cancel = path("<uuid:job_id>/cancel/", self.admin_site.admin_view(self.cancel_view), name="jobs_job_cancel")
        again = path("<uuid:job_id>/rerun/", self.admin_site.admin_view(self.rerun_view), name="jobs_job_rerun")
        return [cancel, again, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a job; one of another team is as unknown as one that never was."""
        caller = require(request, Role.VIEWER)
        job = self.get_object(request, unquote(object_id))
        if job is None:
            return self._unknown(request, object_id)
        return page(request, "console/job.html", f"Job {str(job.id)[:8]}", **job_page.context(job, caller))

    def rerun_view(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        """Run a job again that ended without a result."""
        caller = require(request, Role.SUBMITTER)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        job = Job.objects.visible_to(caller).defer("result").filter(id=job_id).first()
        if job is None:
            return self._unknown(request, str(job_id))
        if job.step:
            return self._of_batch(request, job)
        try:
            rerun(job=job, caller=caller)
        except (NotWaiting, Full, Invalid) as refusal:
            messages.warning(request, str(refusal))
        else:
            messages.success(request, "The job is in the queue again.")
        return redirect("admin:jobs_job_change", job_id)

    def cancel_view(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        """Cancel an open job."""
        require(request, Role.SUBMITTER)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        job = self.get_queryset(request).filter(id=job_id).first()
        if job is None:
            return self._unknown(request, str(job_id))
        if job.step:
            return self._of_batch(request, job)
        if job_cancel(job_id=job_id):
            messages.success(request, "The job was cancelled.")
        else:
            job.refresh_from_db(fields=["state"])
            messages.warning(request, f"The job is {state_text(job.state)}, it can't be cancelled any more.")
        return redirect("admin:jobs_job_change", job_id)

    def _of_batch(self, request: HttpRequest, job: Job) -> HttpResponse:
        messages.warning(request, "The job is a step of this batch; act on the batch.")
        return redirect("admin:batches_batch_change", job.batch_id)

    def _unknown(self, request: HttpRequest, object_id: str) -> HttpResponse:
        messages.warning(request, f"There is no job {object_id}.")
        return redirect("admin:jobs_job_changelist")
