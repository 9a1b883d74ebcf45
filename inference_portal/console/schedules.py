"""Schedules: the list, a schedule's page with its next times and its runs, the form, and the buttons."""

from typing import Any
from uuid import UUID

import orjson
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
from inference_portal.batches.models import Batch
from inference_portal.batches.schedules import services
from inference_portal.batches.schedules.due import upcoming
from inference_portal.batches.schedules.models import Outcome, Schedule, ScheduleRun
from inference_portal.batches.schedules.services import Busy, UnknownSchedule
from inference_portal.console.access import RoleAdmin, require
from inference_portal.console.batch_labels import batch_label
from inference_portal.console.column import column, one_line
from inference_portal.console.page import page
from inference_portal.console.schedule_form import ScheduleForm, values_of
from inference_portal.console.times import duration_text, moment_text
from inference_portal.jobs.quota import Full
from workers.formats import Invalid
from workers.model_store import UnknownModel

# So many next times, and of the runs so many, are shown.
COMING = 5
MAX_RUNS = 50
# So many milliseconds after a look the page takes the next one: while a run is under way, and while one is to come.
QUICK_REFRESH, REFRESH = 2_000, 5_000
OUTCOME_COLOURS = {
    Outcome.WAITING: "info",
    Outcome.MADE: "success",
    Outcome.SKIPPED: "warning",
    Outcome.REFUSED: "danger",
}


class ScheduleAdmin(RoleAdmin):
    """Read by viewers; submitters make, change, run and remove their team's."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    ordering = ("-created_at",)
    sortable_by = ()
    actions = None
    writers = Role.SUBMITTER

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        """Return the schedules that exist for the caller."""
        return Schedule.objects.visible_to(require(request, Role.VIEWER)).select_related("team")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns; the team is for those who see several."""
        team = ["team"] if require(request, Role.VIEWER).sees_all_teams else []
        return ["schedule", "on", "when", "next_due", "last_due", "release", *team, "submitted_by"]

    @column("Schedule")
    def schedule(self, schedule: Schedule) -> str:
        """Return its name."""
        return schedule.name

    @column("State", label={"on": "success", "off": ""})
    def on(self, schedule: Schedule) -> str:
        """Tell whether it is turned on."""
        return "on" if schedule.enabled else "off"

    @column("When")
    def when(self, schedule: Schedule) -> SafeString:
        """Return its rule."""
        return one_line(rule_text(schedule))

    @column("Next (UTC)")
    def next_due(self, schedule: Schedule) -> SafeString:
        """Return when it is due next."""
        return one_line(moment_text(schedule.next_due_at))

    @column("Last run was due (UTC)")
    def last_due(self, schedule: Schedule) -> SafeString:
        """Return when the last run was due that was made."""
        return one_line(moment_text(schedule.last_due_at))

    @column("Model")
    def release(self, schedule: Schedule) -> str:
        """Return what it runs."""
        version = schedule.batch.get("version")
        return f"{schedule.batch.get('model')}{f':{version}' if version else ''}"

    def get_urls(self) -> list[URLPattern]:
        """Return the routes."""
        view = self.admin_site.admin_view
        return [
            path("<uuid:schedule_id>/edit/", view(self.edit_view), name="batches_schedule_edit"),
            path("<uuid:schedule_id>/turn/", view(self.turn_view), name="batches_schedule_turn"),
            path("<uuid:schedule_id>/run-now/", view(self.run_now_view), name="batches_schedule_run_now"),
            path("<uuid:schedule_id>/remove/", view(self.remove_view), name="batches_schedule_remove"),
            *super().get_urls(),
        ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a schedule's own page has a button."""
        return False

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the form of a new one, or store it."""
        caller = require(request, Role.SUBMITTER)
        form = ScheduleForm(request.POST) if request.method == "POST" else ScheduleForm()
        schedule = _stored(form, lambda data: services.schedule_new(data=data, caller=caller))
        if schedule is not None:
            messages.success(request, f"The schedule '{schedule.name}' was made.")
            return redirect("admin:batches_schedule_change", schedule.id)
        return page(request, "console/schedule_form.html", "New schedule", form=form)

    def edit_view(self, request: HttpRequest, schedule_id: UUID) -> HttpResponse:
        """Show the form of one that there is, or change it."""
        caller = require(request, Role.SUBMITTER)
        schedule = self.get_queryset(request).filter(id=schedule_id).first()
        if schedule is None:
            return self._unknown(request, schedule_id)
        shown = values_of(schedule)
        form = ScheduleForm(request.POST, initial=shown) if request.method == "POST" else ScheduleForm(initial=shown)
        changed = _stored(
            form,
            lambda data: services.schedule_change(schedule_id=schedule_id, data=data, caller=caller, replaces=True),
        )
        if changed is not None:
            messages.success(request, "The schedule was changed.")
            return redirect("admin:batches_schedule_change", schedule_id)
        return page(request, "console/schedule_form.html", f"Schedule {schedule.name}", form=form, schedule=schedule)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a schedule; one of another team is as unknown as one that never was."""
        caller = require(request, Role.VIEWER)
        schedule = self.get_object(request, unquote(object_id))
        if schedule is None:
            return self._unknown(request, object_id)
        coming = upcoming(schedule.rule, schedule.handled_until, COMING) if schedule.enabled else []
        runs = _shown(list(schedule.runs.order_by("-due_at", "-id")[:MAX_RUNS]))
        refresh = REFRESH if coming else None
        return page(
            request,
            "console/schedule.html",
            f"Schedule {schedule.name}",
            schedule=schedule,
            rule=rule_text(schedule),
            coming=[f"{each.astimezone(schedule.zone):%Y-%m-%d %H:%M:%S %Z}" for each in coming],
            batch=orjson.dumps(schedule.batch, option=orjson.OPT_INDENT_2).decode(),
            runs=runs,
            refresh=QUICK_REFRESH if any(run["open"] for run in runs) else refresh,
            last_due=moment_text(schedule.last_due_at),
            rehearsal_at=moment_text(schedule.next_rehearsal_at),
            may_change=caller.role.allows(Role.SUBMITTER),
        )

    def turn_view(self, request: HttpRequest, schedule_id: UUID) -> HttpResponse:
        """Turn one on or off."""
        on = request.POST.get("enabled") == "1"

        def act(caller: Caller) -> str:
            services.schedule_change(schedule_id=schedule_id, data={"enabled": on}, caller=caller)
            return "The schedule is on; what was due meanwhile isn't caught up on." if on else "The schedule is off."

        return self._act(request, schedule_id, act)

    def run_now_view(self, request: HttpRequest, schedule_id: UUID) -> HttpResponse:
        """Make a run by hand."""

        def act(caller: Caller) -> str:
            run = services.schedule_run_now(schedule_id=schedule_id, caller=caller)
            return "A run was made." if run.outcome == Outcome.MADE else "A run waits for the one that is under way."

        return self._act(request, schedule_id, act)

    def remove_view(self, request: HttpRequest, schedule_id: UUID) -> HttpResponse:
        """Remove one."""

        def act(caller: Caller) -> str:
            services.schedule_delete(schedule_id=schedule_id, caller=caller)
            return "The schedule was removed; its batches stay."

        return self._act(request, schedule_id, act, stays=False)

    def _act(self, request: HttpRequest, schedule_id: UUID, act: Any, *, stays: bool = True) -> HttpResponse:
        """Do something to a schedule, and show its page (or the list) with what came of it."""
        caller = require(request, Role.SUBMITTER)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            messages.success(request, act(caller))
        except UnknownSchedule:
            return self._unknown(request, schedule_id)
        except Invalid as invalid:
            messages.warning(request, "; ".join(f"{fault.pointer}: {fault.detail}" for fault in invalid.faults))
        except (Busy, Full, UnknownModel) as refusal:
            messages.warning(request, str(refusal))
        else:
            if not stays:
                return redirect("admin:batches_schedule_changelist")
        return redirect("admin:batches_schedule_change", schedule_id)

    def _unknown(self, request: HttpRequest, schedule_id: UUID | str) -> HttpResponse:
        messages.warning(request, f"There is no schedule {schedule_id}.")
        return redirect("admin:batches_schedule_changelist")


def rule_text(schedule: Schedule) -> str:
    """Return in words when it is due."""
    if schedule.cron:
        return f"{schedule.cron} ({schedule.timezone})"
    if schedule.every_seconds is not None:
        return f"every {schedule.every_seconds:,} seconds"
    return f"once, at {moment_text(schedule.at)} UTC"


def _stored(form: ScheduleForm, store: Any) -> Schedule | None:
    """Store what the form asks for; None, with what is wrong at its field, when that can't be."""
    if not form.is_valid():
        return None
    try:
        stored: Schedule = store(form.asked())
    except Invalid as invalid:
        form.add_refusal(invalid)
        return None
    return stored


def _shown(runs: list[ScheduleRun]) -> list[dict[str, Any]]:
    batches = Batch.objects.defer("plan", "carried").in_bulk([run.batch_id for run in runs if run.batch_id is not None])
    return [
        {
            "due": moment_text(run.due_at),
            "kind": run.get_kind_display(),
            "outcome": {"type": OUTCOME_COLOURS[Outcome(run.outcome)], "text": run.get_outcome_display()},
            "why": run.why,
            "warnings": run.warnings,
            "batch": run.batch_id,
            "open": run.outcome == Outcome.WAITING or (run.batch_id in batches and not batches[run.batch_id].is_final),
            "state": batch_label(found.state) if (found := batches.get(run.batch_id)) is not None else None,
            "took": "–" if found is None else duration_text(found.created_at, found.finished_at),
        }
        for run in runs
    ]
