"""The filters of the lists of jobs, of dead letters, and of what else has a state.

Their choices come from elsewhere than the table, which may have very many rows.
"""

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any

from django.contrib.admin import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter, RangeDateFilter

from inference_portal.accounts.models import Team
from inference_portal.console.state_labels import state_text
from inference_portal.jobs.models import Job
from inference_portal.jobs.retry import TRANSIENT
from inference_portal.jobs.states import State
from inference_portal.store import model_store


class FieldFilter(DropdownFilter):
    """Keeps what has the chosen value in the field `parameter_name`."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """Apply the choice."""
        value = self.value()
        return queryset.filter(**{self.parameter_name: value}) if value else queryset


class StateFilter(FieldFilter):
    """By state."""

    title = "state"
    parameter_name = "state"
    states: type[StrEnum] = State

    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> list[tuple[str, str]]:
        """Return all states."""
        return [(state.value, state_text(state)) for state in self.states]


class ModelFilter(FieldFilter):
    """By model; one that is no longer served can be named in the address."""

    title = "model"
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> list[tuple[str, str]]:
        """Return the served models, and the chosen one."""
        return _choices({request.GET.get("model", ""), *model_store().snapshot().releases})


class VersionFilter(FieldFilter):
    """By version."""

    title = "version"
    parameter_name = "version"

    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> list[tuple[str, str]]:
        """Return the served versions of the chosen model, or of all, and the chosen one."""
        releases = model_store().snapshot().releases
        model = request.GET.get("model", "")
        chosen = [releases.get(model, {})] if model else list(releases.values())
        return _choices({request.GET.get("version", ""), *(version for versions in chosen for version in versions)})


class TeamFilter(FieldFilter):
    """By team."""

    title = "team"
    parameter_name = "team__name"

    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> list[tuple[str, str]]:
        """Return all teams."""
        return _choices(set(Team.objects.values_list("name", flat=True)))


class CodeFilter(FieldFilter):
    """By why it ended."""

    title = "reason"
    parameter_name = "error_code"

    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> list[tuple[str, str]]:
        """Return what a job is given up for."""
        return _choices({*TRANSIENT})


class AcceptedFilter(RangeDateFilter):
    """By the day of acceptance (UTC), both days included. Unfold's own stops at the beginning of the last day."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """Apply the days; one that can't be read is left out."""
        first, last = (_day(self.used_parameters.get(f"{self.parameter_name}_{end}")) for end in ("from", "to"))
        if first is not None:
            queryset = queryset.filter(accepted_at__gte=first)
        if last is not None:
            queryset = queryset.filter(accepted_at__lt=last + timedelta(days=1))
        return queryset


def _choices(values: set[str]) -> list[tuple[str, str]]:
    return [(value, value) for value in sorted(values - {""})]


def _day(text: str | None) -> datetime | None:
    try:
        return datetime.combine(date.fromisoformat(text or ""), time(), UTC)
    except ValueError:
        return None
