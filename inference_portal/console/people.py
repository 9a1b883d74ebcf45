"""Teams and the people in them, for operators."""

from typing import Any

from django.conf import settings
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from inference_portal.accounts.models import Role, Team, User
from inference_portal.console.access import OperatorAdmin
from inference_portal.console.column import column, one_line
from inference_portal.console.times import moment_text

ROLE_COLOURS = {Role.VIEWER: "", Role.SUBMITTER: "info", Role.OPERATOR: "warning"}


class TeamAdmin(OperatorAdmin):
    """A team is never deleted: its jobs would go with it."""

    list_display = ("name", "users", "keys", "open_jobs", "created")
    fields = ("name", "quota")
    ordering = ("name",)
    search_fields = ("name",)
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Team]:
        """Return all teams with how many users and keys they have."""
        counts = {"user_count": Count("users", distinct=True), "key_count": Count("keys", distinct=True)}
        teams: QuerySet[Team] = super().get_queryset(request).annotate(**counts)
        return teams

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    @column("Users")
    def users(self, team: Any) -> int:
        """Return how many people belong to it."""
        return int(team.user_count)

    @column("API keys")
    def keys(self, team: Any) -> int:
        """Return how many keys it has."""
        return int(team.key_count)

    @column("Open jobs at most")
    def open_jobs(self, team: Team) -> str:
        """Return its own quota, or the default."""
        return f"{settings.TEAM_QUOTA:,} (default)" if team.quota is None else f"{team.quota:,}"

    @column("Created (UTC)", ordering="created_at")
    def created(self, team: Team) -> str:
        """Return when it was made."""
        return one_line(moment_text(team.created_at))


class UserAdmin(DjangoUserAdmin, OperatorAdmin):  # type: ignore[type-arg]
    """Team and role say all about a person's rights, so Django's groups and permissions are not shown."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "role_label", "team", "email", "is_active", "logged_in")
    list_filter = ("role", "is_active")
    list_select_related = ("team",)
    search_fields = ("username", "email", "first_name", "last_name")
    filter_horizontal = ()
    ordering = ("username",)
    actions = None
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Rights", {"fields": ("team", "role", "is_active")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "team", "role", "password1", "password2")}),)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow it, except for oneself."""
        return super().has_delete_permission(request, obj) and obj != request.user

    @column("Role", label=ROLE_COLOURS, ordering="role")
    def role_label(self, user: User) -> tuple[str, str]:
        """Return the role that counts: a superuser is an operator."""
        role = Role.OPERATOR if user.is_superuser else Role(user.role)
        return role, role.value

    @column("Last login (UTC)", ordering="last_login")
    def logged_in(self, user: User) -> str:
        """Return when the person was here last."""
        return one_line(moment_text(user.last_login))
