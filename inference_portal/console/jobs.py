"""Jobs: the list, a job's page, and the button that cancels it."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from unfold.paginator import InfinitePaginator

from inference_portal.accounts.models import Role
from inference_portal.console import job_page
from inference_portal.console.access import RoleAdmin, require
from inference_portal.console.column import column, one_line
from inference_portal.console.job_filters import AcceptedFilter, ModelFilter, StateFilter, VersionFilter
from inference_portal.console.page import page
from inference_portal.console.state_labels import STATE_COLOURS, state_text
from inference_portal.console.times import duration_text, moment_text
from inference_portal.jobs.models import Job
from inference_portal.jobs.services import job_cancel


class JobAdmin(RoleAdmin):
    """Read-only: jobs come from the API and from "New prediction"."""

    list_per_page = 50
    # Counting millions of rows would take longer than reading a page of them.
    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    ordering = ("-accepted_at",)
    # Only the order by time has an index.
    sortable_by = ()
    actions = None
    list_filter = (StateFilter, ModelFilter, VersionFilter, ("accepted_at", AcceptedFilter))
    list_filter_submit = True
    search_fields = ("id",)
    search_help_text = "The id of a job"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Return the jobs that exist for the caller, without their payload."""
        return Job.objects.visible_to(require(request, Role.VIEWER)).without_payload().select_related("team")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns; the team is for those who see several."""
        team = ["team"] if require(request, Role.VIEWER).sees_all_teams else []
        return ["job", "state_label", "release", "rows", "attempt", *team, "submitted_by", "accepted", "duration"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Job], search_term: str
    ) -> tuple[QuerySet[Job], bool]:
        """Find one job by its id: a search for parts of ids would read the whole table."""
        if not search_term.strip():
            return queryset, False
        try:
            return queryset.filter(id=UUID(search_term.strip())), False
        except ValueError:
            messages.warning(request, "The search takes the whole id of a job, such as /status/… shows it.")
            return queryset.none(), False

    @column("Job")
    def job(self, job: Job) -> str:
        """Return the id's beginning, which is enough to tell jobs apart."""
        return str(job.id)[:8]

    @column("State", label=STATE_COLOURS)
    def state_label(self, job: Job) -> tuple[str, str]:
        """Return the state as a coloured label."""
        return job.state, state_text(job.state)

    @column("Model")
    def release(self, job: Job) -> str:
        """Return model and version."""
        return f"{job.model}:{job.version}"

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
        return [cancel, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a job; one of another team is as unknown as one that never was."""
        caller = require(request, Role.VIEWER)
        job = self.get_object(request, unquote(object_id))
        if job is None:
            return self._unknown(request, object_id)
        return page(request, "console/job.html", f"Job {str(job.id)[:8]}", **job_page.context(job, caller))

    def cancel_view(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        """Cancel an open job."""
        require(request, Role.SUBMITTER)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        job = self.get_queryset(request).filter(id=job_id).first()
        if job is None:
            return self._unknown(request, str(job_id))
        if job_cancel(job_id=job_id):
            messages.success(request, "The job was cancelled.")
        else:
            job.refresh_from_db(fields=["state"])
            messages.warning(request, f"The job is {state_text(job.state)}, it can't be cancelled any more.")
        return redirect("admin:jobs_job_change", job_id)

    def _unknown(self, request: HttpRequest, object_id: str) -> HttpResponse:
        messages.warning(request, f"There is no job {object_id}.")
        return redirect("admin:jobs_job_changelist")
