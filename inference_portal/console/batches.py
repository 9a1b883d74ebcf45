"""Batches: the list, a batch's page, and the buttons that cancel it or run it again."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.safestring import SafeString

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role
from inference_portal.batches import fields
from inference_portal.batches.models import Batch
from inference_portal.batches.services import batch_cancel
from inference_portal.batches.states import State
from inference_portal.console import batch_page
from inference_portal.console.access import RoleAdmin, require
from inference_portal.console.batch_labels import STATE_COLOURS, progress_bar
from inference_portal.console.column import column, one_line
from inference_portal.console.job_filters import ModelFilter, StateFilter
from inference_portal.console.page import page
from inference_portal.console.times import duration_text, moment_text
from inference_portal.jobs.quota import Full
from inference_portal.jobs.rerun import NotWaiting
from workers.formats import Invalid


class BatchStateFilter(StateFilter):
    """By state."""

    states = State


class BatchAdmin(RoleAdmin):
    """Read-only: batches come from the API, the command line, schedules and "New batch"."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    ordering = ("-created_at",)
    # Only the order by time has an index.
    sortable_by = ()
    actions = None
    list_filter = (BatchStateFilter, ModelFilter)
    list_filter_submit = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        """Return the batches that exist for the caller, without what only workers read."""
        return Batch.objects.visible_to(require(request, Role.VIEWER)).defer("plan").select_related("team")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns; the team is for those who see several. More would not fit a small screen."""
        team = ["team"] if require(request, Role.VIEWER).sees_all_teams else []
        return ["batch", "state_label", "progress", "release", *team, "created", "duration", "due"]

    @column("Batch")
    def batch(self, batch: Batch) -> str:
        """Return the id's beginning, which is enough to tell batches apart."""
        return str(batch.id)[:8]

    @column("State", label=STATE_COLOURS)
    def state_label(self, batch: Batch) -> tuple[str, str]:
        """Return the state as a coloured label."""
        return batch.state, batch.state

    @column("Progress")
    def progress(self, batch: Batch) -> SafeString:
        """Return the bar."""
        return progress_bar(batch)

    @column("Model")
    def release(self, batch: Batch) -> str:
        """Return model and version."""
        return f"{batch.model}:{batch.version}"

    @column("Created (UTC)")
    def created(self, batch: Batch) -> SafeString:
        """Return when it was accepted."""
        return one_line(moment_text(batch.created_at))

    @column("Duration")
    def duration(self, batch: Batch) -> str:
        """Return the time from acceptance to the end."""
        return duration_text(batch.created_at, batch.finished_at)

    @column("Deadline (UTC)")
    def due(self, batch: Batch) -> str:
        """Return the deadline, and whether it is at risk."""
        return moment_text(batch.deadline) + (" (at risk)" if batch.at_risk and not batch.is_final else "")

    def get_urls(self) -> list[URLPattern]:
        """Return the routes."""
        view = self.admin_site.admin_view
        return [
            path("<uuid:batch_id>/cancel/", view(self.cancel_view), name="batches_batch_cancel"),
            path("<uuid:batch_id>/rerun/", view(self.rerun_view), name="batches_batch_rerun"),
            path("<uuid:batch_id>/change-run/", view(self.change_run_view), name="batches_batch_change_run"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a batch; one of another team is as unknown as one that never was."""
        caller = require(request, Role.VIEWER)
        batch = self.get_object(request, unquote(object_id))
        if batch is None:
            return self._unknown(request, object_id)
        return page(request, "console/batch.html", f"Batch {str(batch.id)[:8]}", **batch_page.context(batch, caller))

    def cancel_view(self, request: HttpRequest, batch_id: UUID) -> HttpResponse:
        """Cancel an open batch."""
        return self._act(
            request,
            batch_id,
            _cancel,
            "The batch was cancelled.",
        )

    def rerun_view(self, request: HttpRequest, batch_id: UUID) -> HttpResponse:
        """Run a batch again that has ended."""
        policy = request.POST.get("retry_policy")
        return self._act(
            request,
            batch_id,
            lambda batch, caller: fields.rerun(batch.id, {"retry_policy": policy}, caller),
            "The batch is under way again.",
        )

    def change_run_view(self, request: HttpRequest, batch_id: UUID) -> HttpResponse:
        """Change what an open batch does after a failure."""
        policy = request.POST.get("retry_policy")
        return self._act(
            request,
            batch_id,
            lambda batch, caller: fields.change(batch.id, {"retry_policy": policy}, caller),
            "The batch goes on with this policy.",
        )

    def _act(self, request: HttpRequest, batch_id: UUID, act: Any, done: str) -> HttpResponse:
        """Do something to a batch, and show its page with what came of it."""
        caller = require(request, Role.SUBMITTER)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        batch = self.get_queryset(request).filter(id=batch_id).first()
        if batch is None:
            return self._unknown(request, str(batch_id))
        try:
            act(batch, caller)
        except Invalid as invalid:
            messages.warning(request, "; ".join(fault.detail for fault in invalid.faults))
        except (NotWaiting, Full) as refusal:
            messages.warning(request, str(refusal))
        else:
            messages.success(request, done)
        return redirect("admin:batches_batch_change", batch_id)

    def _unknown(self, request: HttpRequest, object_id: str) -> HttpResponse:
        messages.warning(request, f"There is no batch {object_id}.")
        return redirect("admin:batches_batch_changelist")


def _cancel(batch: Batch, caller: Caller) -> None:
    if not batch_cancel(batch_id=batch.id, caller=caller):
        raise NotWaiting("The batch has ended already.")
