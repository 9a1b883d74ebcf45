"""The sidebar and the badge beside it, for each role (named in settings.UNFOLD)."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from inference_portal.accounts.models import Role
from inference_portal.console.access import caller_of
from inference_portal.console.attention import dead_letter_count


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the groups of links that the role has a use for."""
    caller = caller_of(request)
    if caller is None:
        return []
    predict = [_item("New prediction", "add_circle", reverse("admin:predict"))]
    batch = [_item("New batch", "playlist_add", reverse("admin:new_batch"))]
    groups = [
        _group(
            "Inference",
            _item("Dashboard", "monitoring", reverse("admin:index")),
            *(predict if caller.role.allows(Role.SUBMITTER) else []),
            _item("Jobs", "list_alt", reverse("admin:jobs_job_changelist")),
            *(batch if caller.role.allows(Role.SUBMITTER) else []),
            _item("Batches", "table_rows", reverse("admin:batches_batch_changelist")),
            _item("Schedules", "event_repeat", reverse("admin:batches_schedule_changelist")),
            _item("Deliveries", "send", reverse("admin:deliveries_delivery_changelist")),
            _item("Webhooks", "webhook", reverse("admin:deliveries_endpoint_changelist")),
            _item("Models", "deployed_code", reverse("admin:models")),
            _item("Workers", "memory", reverse("admin:jobs_worker_changelist")),
        )
    ]
    if caller.role.allows(Role.OPERATOR):
        groups.append(
            _group(
                "Operations",
                _item("Dead letters", "report", reverse("admin:console_deadletter_changelist"), dead_letter_count()),
                _item("Parked messages", "unknown_document", reverse("admin:jobs_parkedmessage_changelist")),
                _item("Audit log", "history", reverse("admin:jobs_auditentry_changelist")),
            )
        )
        groups.append(
            _group(
                "Access",
                _item("Users", "person", reverse("admin:accounts_user_changelist")),
                _item("Teams", "group", reverse("admin:accounts_team_changelist")),
                _item("API keys", "key", reverse("admin:accounts_apikey_changelist")),
            )
        )
    help_links = _group("Help", _item("API docs", "api", reverse("docs")), _item("Problem types", "help", "/problems/"))
    return [*groups, help_links]


def badge(request: HttpRequest) -> list[str] | None:
    """Return the role as a label for the page's head, so that a missing button explains itself."""
    caller = caller_of(request)
    return None if caller is None else [caller.role.value, "info"]


def _group(title: str, *items: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "items": list(items)}


def _item(title: str, icon: str, link: str, count: str = "0") -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": link, "badge": None if count == "0" else count}
