"""The audit log: who did what to dead letters."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from inference_portal.accounts.models import Role
from inference_portal.console.access import RoleAdmin
from inference_portal.console.column import column, lines, one_line
from inference_portal.console.times import moment_text
from inference_portal.jobs.models import Action, AuditEntry

# Of a digest so much tells two apart.
DIGEST_CHARACTERS = 12


class AuditAdmin(RoleAdmin):
    """Read-only, for operators; an entry is written with the act itself."""

    readers = Role.OPERATOR
    list_display = ("when", "who", "what", "about", "reason", "changed")
    list_display_links = None
    list_filter = ("action",)
    list_filter_submit = True
    list_per_page = 50
    search_fields = ("who", "reason")
    search_help_text = "Who, or a word of the reason"
    sortable_by = ()
    actions = None

    @column("When (UTC)")
    def when(self, entry: AuditEntry) -> str:
        """Return the time."""
        return one_line(moment_text(entry.at))

    @column("What", label={Action.REPLAY: "info", Action.DISCARD: "warning"})
    def what(self, entry: AuditEntry) -> tuple[str, str]:
        """Return the act."""
        return entry.action, entry.get_action_display()

    @column("About")
    def about(self, entry: AuditEntry) -> str:
        """Return a link to the job, or name the message."""
        if entry.job_id is None:
            return one_line(f"message {entry.message_id}")
        url = reverse("admin:jobs_job_change", args=[entry.job_id])
        return format_html('<a class="portal-link whitespace-nowrap" href="{}">job {}</a>', url, str(entry.job_id)[:8])

    @column("Changes")
    def changed(self, entry: AuditEntry) -> str:
        """Return what it changed."""
        return lines(changes_text(entry.changes))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow the list, and no page of an entry: the list shows all of it."""
        return obj is None and super().has_view_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        """Return all entries, the latest first."""
        return AuditEntry.objects.all()


def audit_rows(job_id: UUID) -> list[dict[str, str]]:
    """Return the texts of a job's entries, the latest first."""
    return [
        {
            "when": moment_text(entry.at),
            "who": entry.who,
            "what": entry.get_action_display(),
            "reason": entry.reason,
            "changes": ", ".join(changes_text(entry.changes)),
        }
        for entry in AuditEntry.objects.filter(job_id=job_id)
    ]


def changes_text(changes: dict[str, list[Any]]) -> list[str]:
    """Return each change as before and after, digests by their beginnings."""
    return [f"{name.replace('_', ' ')} {_text(before)} → {_text(after)}" for name, (before, after) in changes.items()]


def _text(value: Any) -> str:
    return "none" if value is None else str(value)[:DIGEST_CHARACTERS]
