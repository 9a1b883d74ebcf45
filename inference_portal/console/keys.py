"""API keys, for operators. A key's database id holds its hash, so pages and addresses know it by its prefix."""

from typing import Any

from django.contrib import messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from unfold.views import ChangeList as UnfoldChangeList

from inference_portal.accounts.models import ApiKey
from inference_portal.console.access import OperatorAdmin
from inference_portal.console.column import column, one_line
from inference_portal.console.people import ROLE_COLOURS
from inference_portal.console.times import moment_text


class KeyList(UnfoldChangeList):
    """Links to keys by their prefix."""

    def url_for_result(self, result: ApiKey) -> str:
        """Return the address of a key's page."""
        return reverse("admin:accounts_apikey_change", args=[result.prefix])


class KeyAdmin(OperatorAdmin):
    """A key is shown once, when it is made; it is revoked, not deleted, so that its prefix stays explained."""

    list_display = ("prefix", "name", "team", "role_label", "state", "expires", "last_used")
    list_filter = ("role", "revoked")
    list_select_related = ("team",)
    search_fields = ("prefix", "name")
    ordering = ("team__name", "name")
    actions = None

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that knows keys by their prefix."""
        return KeyList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> ApiKey | None:
        """Find a key by its prefix."""
        keys: QuerySet[ApiKey] = self.get_queryset(request)
        return keys.filter(prefix=object_id).first()

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        """Return what is asked for, and later what is known."""
        asked = ("name", "team", "role", "expiry_date")
        return asked if obj is None else ("prefix", *asked, "revoked", "created", "last_used_at")

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        """Fix a key's team for good, and everything about a revoked one."""
        if obj is None:
            return ()
        fixed = ("prefix", "team", "created", "last_used_at")
        return (*fixed, "name", "role", "expiry_date", "revoked") if obj.revoked else fixed

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def save_model(self, request: HttpRequest, obj: ApiKey, form: "ModelForm[ApiKey]", change: bool) -> None:
        """Store it; a new one gets its key, which is told this once."""
        if change:
            obj.save()
            return
        key = ApiKey.objects.assign_key(obj)
        obj.save()
        messages.warning(request, f"The key '{obj.name}', shown only this once; keep it like a password: {key}")

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """Go back to the list; Django's own message would link to the database id."""
        return redirect("admin:accounts_apikey_changelist")

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the form with one button, and without the history and the crumb, whose links hold the database id."""
        hidden = ("original", "show_history", "show_save_and_add_another", "show_save_and_continue")
        context = {**dict.fromkeys(hidden, False), **(extra_context or {})}
        response: HttpResponse = super().changeform_view(request, object_id, form_url, context)
        return response

    @column("Role", label=ROLE_COLOURS, ordering="role")
    def role_label(self, key: ApiKey) -> tuple[str, str]:
        """Return the role as a label."""
        return key.role, key.role

    @column("State", label={"works": "success", "revoked": "danger", "expired": "warning"})
    def state(self, key: ApiKey) -> str:
        """Tell whether it works."""
        return "revoked" if key.revoked else "expired" if key.has_expired else "works"

    @column("Expires (UTC)", ordering="expiry_date")
    def expires(self, key: ApiKey) -> str:
        """Return when it stops working."""
        return one_line(moment_text(key.expiry_date))

    @column("Last used (UTC)", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        """Return when it was used last, to the minute."""
        return one_line(moment_text(key.last_used_at))
