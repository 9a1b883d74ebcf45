"""Messages that nobody could read: the list, and the page of one."""

import json
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.utils.text import Truncator

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role
from inference_portal.console.access import require
from inference_portal.console.column import column, one_line
from inference_portal.console.discarding import DiscardAdmin, DiscardForm
from inference_portal.console.page import page
from inference_portal.console.times import moment_text
from inference_portal.jobs import dead_letters
from inference_portal.jobs.dead_letters import UnknownDeadLetter
from inference_portal.jobs.models import ParkedMessage

# Of an error in the list.
ERROR_CHARACTERS = 120


class ParkedMessageAdmin(DiscardAdmin):
    """What waits for somebody to look at it."""

    list_display = ("message", "queue", "reason", "short_error", "readable_size", "received")
    list_filter = ("queue", "reason")
    list_filter_submit = True
    list_per_page = 50
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[ParkedMessage]:
        """Return what waits, without the bodies."""
        return ParkedMessage.objects.filter(discarded_at=None).defer("body", "headers")

    @column("Message")
    def message(self, message: ParkedMessage) -> str:
        """Return its number."""
        return one_line(f"message {message.pk}")

    @column("Error")
    def short_error(self, message: ParkedMessage) -> str:
        """Return the beginning of what is wrong with it."""
        return Truncator(message.error).chars(ERROR_CHARACTERS)

    @column("Size")
    def readable_size(self, message: ParkedMessage) -> str:
        """Return the size of its body."""
        return one_line(filesizeformat(message.size))

    @column("Received (UTC)")
    def received(self, message: ParkedMessage) -> str:
        """Return when it was parked."""
        return one_line(moment_text(message.received_at))

    def discard(self, caller: Caller, key: str, reason: str) -> object:
        """Discard one."""
        return dead_letters.discard_message(message_id=_number(key), caller=caller, reason=reason)

    def show(self, request: HttpRequest, key: str, **shown: Any) -> HttpResponse:
        """Show one, also when it was discarded."""
        require(request, Role.OPERATOR)
        message: Any = dead_letters.parked_messages().filter(pk=int(key)).first() if key.isdecimal() else None
        if message is None:
            messages.warning(request, f"There is no message {key}.")
            return self.to_list()
        body = dead_letters.excerpt(message.start)
        facts = [
            ("Came from", message.queue),
            ("Given up because", message.reason),
            ("Received (UTC)", moment_text(message.received_at)),
            ("Size", filesizeformat(message.size)),
        ]
        return page(
            request,
            "console/parked_message.html",
            f"Message {message.pk}",
            message=message,
            facts=facts,
            headers=json.dumps(json.loads(message.headers), indent=2, ensure_ascii=False),
            body=body,
            is_cut=len(body) == dead_letters.EXCERPT_CHARACTERS,
            discarded=moment_text(message.discarded_at),
            discard_form=shown.get("discard_form") or DiscardForm(),
        )


def _number(key: str) -> int:
    if not key.isdecimal():
        raise UnknownDeadLetter(f"There is no message {key[:100]!r}.")
    return int(key)
