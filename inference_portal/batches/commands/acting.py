"""What the subcommands share: who asks, which batch, and how a refusal is told."""

import contextlib
import getpass
from argparse import ArgumentParser
from collections.abc import Iterator
from uuid import UUID

from django.core.management.base import CommandError

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role, Team
from inference_portal.batches.models import Batch
from inference_portal.jobs.quota import Full
from inference_portal.jobs.rerun import NotWaiting
from workers.datasets import Unreachable
from workers.formats import Invalid
from workers.model_store import UnknownModel


def add_batch(parser: ArgumentParser) -> None:
    """Declare which batch."""
    parser.add_argument("batch", help="its id, or the beginning of it")


def operator(team_id: int) -> Caller:
    """Return who sits at the terminal, as an operator of the team."""
    return Caller(team_id, Role.OPERATOR, f"{getpass.getuser()} (manage.py)")


def team_named(name: str | None) -> Team:
    """Return the team, which without a name is the only one. Raises CommandError."""
    teams = list(Team.objects.filter(**({} if name is None else {"name": name})).order_by("name")[:2])
    if not teams:
        raise CommandError(f"There is no team{'' if name is None else f' {name}'}; `manage.py access list` shows all.")
    if len(teams) > 1:
        raise CommandError("There are several teams: name the one that the batch is for, with --team.")
    return teams[0]


def batch_named(text: str) -> Batch:
    """Return the batch whose id begins like this. Raises CommandError."""
    digits = text.replace("-", "").lower()
    try:
        first = UUID(digits.ljust(32, "0"))
        last = UUID(digits.ljust(32, "f"))
    except ValueError:
        raise CommandError(f"{text!r} is no id, and not the beginning of one.") from None
    found = list(Batch.objects.filter(id__gte=first, id__lte=last).select_related("team")[:2])
    if not found:
        raise CommandError(f"There is no batch {text}; `manage.py batch status` shows the last ones.")
    if len(found) > 1:
        raise CommandError(f"Several batches' ids begin with {text}: give more of it.")
    return found[0]


@contextlib.contextmanager
def refusals_told() -> Iterator[None]:
    """Turn a refusal into a CommandError."""
    try:
        yield
    except Invalid as invalid:
        raise CommandError("; ".join(f"{fault.pointer[1:]}: {fault.detail}" for fault in invalid.faults)) from invalid
    except (NotWaiting, Full, UnknownModel, Unreachable) as refusal:
        raise CommandError(str(refusal)) from refusal
