"""What the lists of jobs and of dead letters share."""

from uuid import UUID

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.db.models import QuerySet
from django.http import HttpRequest

from inference_portal.console.access import RoleAdmin
from inference_portal.console.column import column
from inference_portal.jobs.models import Job


class JobList(RoleAdmin):
    """Pages of jobs in the order of time, found by their whole id."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    # Only the order by time has an index.
    sortable_by = ()
    list_filter_submit = True
    search_fields = ("id",)
    search_help_text = "The id of a job"

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

    @column("Model")
    def release(self, job: Job) -> str:
        """Return model and version."""
        return f"{job.model}:{job.version}"
