"""Dead letters: the list, the page of one, and what an operator does about them."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.text import Truncator

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role
from inference_portal.console.access import require
from inference_portal.console.audit import audit_rows
from inference_portal.console.column import column, one_line
from inference_portal.console.discarding import DiscardAdmin, DiscardForm, report
from inference_portal.console.job_filters import CodeFilter, ModelFilter, TeamFilter, VersionFilter
from inference_portal.console.job_list import JobList
from inference_portal.console.job_page import attempt_rows, facts
from inference_portal.console.models import DeadLetter
from inference_portal.console.page import page
from inference_portal.console.replay_form import ReplayForm
from inference_portal.console.tables import input_table
from inference_portal.console.times import moment_text
from inference_portal.jobs import dead_letters
from inference_portal.jobs.dead_letters import UnknownDeadLetter
from inference_portal.jobs.models import Job
from inference_portal.jobs.rerun import NotWaiting
from inference_portal.jobs.states import Event, sources
from workers.formats import Invalid, Malformed, TooLarge

# Of a reason in the list.
REASON_CHARACTERS = 80


class DeadLetterAdmin(DiscardAdmin, JobList):
    """What was given up and waits: the latest first."""

    actions = ("replay_selected", "discard_selected")
    list_display = ("job", "reason", "release", "team", "rows", "attempt", "alone", "given_up")
    list_filter = (ModelFilter, VersionFilter, TeamFilter, CodeFilter)
    ordering = ("-finished_at", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        """Return what waits, without payload."""
        return DeadLetter.objects.dead_letters().without_payload().select_related("team")  # type: ignore[return-value]

    @column("Reason")
    def reason(self, job: Job) -> str:
        """Return the code and the beginning of the message."""
        text = Truncator(job.error_message).chars(REASON_CHARACTERS)
        return format_html('<div><b class="whitespace-nowrap">{}</b><br>{}</div>', job.error_code, text)

    @column("Tried alone")
    def alone(self, job: Job) -> str:
        """Tell whether it was a suspect."""
        return "yes" if job.isolated else "no"

    @column("Given up (UTC)")
    def given_up(self, job: Job) -> str:
        """Return when."""
        return one_line(moment_text(job.finished_at))

    def get_urls(self) -> list[URLPattern]:
        """Return the routes."""
        view = self.admin_site.admin_view(self.replay_view)
        return [path("<uuid:job_id>/replay/", view, name=self.route("replay")), *super().get_urls()]

    @admin.action(description="Replay")
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Put them back into the queue as they are."""
        caller = require(request, Role.OPERATOR)
        ids = list(queryset.values_list("pk", flat=True)[: dead_letters.MAX_BULK])
        results = dead_letters.each(ids, lambda job_id: dead_letters.replay(job_id=job_id, caller=caller))
        report(request, results, "Back in the queue")

    def discard(self, caller: Caller, key: str, reason: str) -> object:
        """Discard one."""
        return dead_letters.discard(job_id=_uuid(key), caller=caller, reason=reason)

    def replay_view(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        """Put one back into the queue, perhaps with another version and another input."""
        caller = require(request, Role.OPERATOR)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        job = _find(job_id, caller)
        if job is None:
            return self._unknown(request, job_id)
        form = ReplayForm(job, request.POST)
        if form.is_valid():
            try:
                dead_letters.replay(
                    job_id=job_id, caller=caller, version=form.cleaned_data["version"], read=form.reader
                )
            except (Invalid, Malformed, TooLarge) as refusal:
                form.add_refusal(refusal)
            except NotWaiting as refusal:
                messages.warning(request, str(refusal))
                return redirect("admin:jobs_job_change", job_id)
            else:
                url = reverse("admin:jobs_job_change", args=[job_id])
                link = format_html('<a href="{}" class="underline">Look at job {}</a>', url, str(job_id)[:8])
                messages.success(request, format_html("The job is back in the queue. {}", link))
                return self.to_list()
        return self._show(request, job, caller, replay_form=form)

    def show(self, request: HttpRequest, key: str, **shown: Any) -> HttpResponse:
        """Show one, also when it was discarded."""
        caller = require(request, Role.OPERATOR)
        try:
            job_id = _uuid(key)
        except UnknownDeadLetter:
            return self._unknown(request, key)
        job = _find(job_id, caller)
        return self._unknown(request, job_id) if job is None else self._show(request, job, caller, **shown)

    def _show(
        self,
        request: HttpRequest,
        job: Job,
        caller: Caller,
        *,
        replay_form: ReplayForm | None = None,
        discard_form: DiscardForm | None = None,
    ) -> HttpResponse:
        waits = job.discarded_at is None
        replay_form = replay_form or ReplayForm(job)
        return page(
            request,
            "console/dead_letter.html",
            f"Dead letter {str(job.id)[:8]}",
            job=job,
            waits=waits,
            discarded=moment_text(job.discarded_at),
            facts=facts(job, caller),
            attempts=attempt_rows(job),
            shows_traceback=True,
            inputs=None if waits and "rows" in replay_form.fields else input_table(job),
            replay_form=replay_form,
            discard_form=discard_form or DiscardForm(),
            audit=audit_rows(job.id),
        )

    def _unknown(self, request: HttpRequest, key: object) -> HttpResponse:
        messages.warning(request, f"There is no dead letter {key}; it may have been replayed meanwhile.")
        return self.to_list()


def _find(job_id: UUID, caller: Caller) -> Job | None:
    dead = Job.objects.visible_to(caller).filter(id=job_id, state__in=sources(Event.REPLAY))
    return dead.defer("result").select_related("team").first()


def _uuid(key: str) -> UUID:
    try:
        return UUID(key)
    except ValueError:
        raise UnknownDeadLetter(f"There is no dead letter {key[:100]!r}.") from None
