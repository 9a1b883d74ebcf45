"""The login form."""

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm as UnfoldAuthenticationForm

NO_TEAM = "This user belongs to no team yet, so there is nothing to see. An operator can change that."


class LoginForm(UnfoldAuthenticationForm):
    """Lets in every active user who has a team; Django's own would ask for `is_staff`."""

    def confirm_login_allowed(self, user: Any) -> None:
        """Refuse inactive users and those without a team. Raises ValidationError."""
        AuthenticationForm.confirm_login_allowed(self, user)
        if getattr(user, "team_id", None) is None:
            raise ValidationError(NO_TEAM, code="no_team")
