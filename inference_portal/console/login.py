"""The login form, and what it says to those who guess."""

import threading
from math import ceil
from typing import Any

from django.contrib.auth.forms import AuthenticationForm, UsernameField
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from unfold.forms import AuthenticationForm as UnfoldAuthenticationForm

from inference_portal.accounts.client_address import client_address
from inference_portal.accounts.lockout import seconds_locked
from inference_portal.accounts.models import User
from inference_portal.jobs.pool import give_back

NO_TEAM = "This user belongs to no team yet, so there is nothing to see. An operator can change that."
WRONG = "Username or password is wrong. Capitals count in both."
LOCKED = (
    "Too many failed logins as this user from your address. Try again in {minutes}: until then the right password is "
    "refused too. An operator can unlock it sooner."
)
BUSY = "Too many people are logging in at this moment. Nothing was checked or counted; try again."
# Tries for one name from one address wait for each other: of a hundred sent at once only those are checked that
# LOGIN_FAILURES allows. And as each check takes a core for a while, a crowd of them leaves the rest to other requests.
_turns = [threading.Lock() for _ in range(4)]
# Who waits for a turn holds one of the portal's threads.
TURN_SECONDS = 5.0


class LoginForm(UnfoldAuthenticationForm):
    """Lets in every active user who has a team; Django's own would ask for `is_staff`."""

    # Django's own tells the length to the browser only; PostgreSQL would refuse to note a failure under a longer name.
    username = UsernameField(max_length=User._meta.get_field("username").max_length)
    error_messages = {**AuthenticationForm.error_messages, "invalid_login": WRONG}

    def clean(self) -> dict[str, Any]:
        """Check name and password. Raises ValidationError."""
        client = (self.cleaned_data.get("username"), client_address(self.request))
        give_back()
        turn = _turns[hash(client) % len(_turns)]
        if not turn.acquire(timeout=TURN_SECONDS):
            raise ValidationError(BUSY, code="busy")
        try:
            cleaned: dict[str, Any] = super().clean()
        finally:
            turn.release()
        return cleaned

    def get_invalid_login_error(self) -> ValidationError:
        """Return what is said: the same for names that exist and for others, locked or not."""
        if getattr(self.request, "axes_locked_out", False):
            return ValidationError(LOCKED.format(minutes=_minutes(_seconds_locked(self.request))), code="locked")
        error: ValidationError = super().get_invalid_login_error()
        return error

    def confirm_login_allowed(self, user: Any) -> None:
        """Refuse inactive users and those without a team. Raises ValidationError."""
        AuthenticationForm.confirm_login_allowed(self, user)
        if getattr(user, "team_id", None) is None:
            raise ValidationError(NO_TEAM, code="no_team")


def locked_answer(request: HttpRequest, page: HttpResponse, credentials: dict[str, Any]) -> HttpResponse:
    """Return the login page, which says it already, as a 429 (called by django-axes)."""
    page.status_code = 429
    page["Retry-After"] = str(_seconds_locked(request))
    return page


def _seconds_locked(request: Any) -> int:
    return seconds_locked(request.axes_credentials["username"], request.axes_ip_address)


def _minutes(seconds: int) -> str:
    minutes = ceil(seconds / 60)
    return "a minute" if minutes == 1 else f"{minutes} minutes"
