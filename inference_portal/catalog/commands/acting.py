"""What the subcommands share that change a model's traffic: who does it, why, and how a refusal is told."""

import contextlib
import getpass
from argparse import ArgumentParser
from collections.abc import Iterator

from django.core.management.base import CommandError

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role, Team
from inference_portal.catalog.models import ReleaseEvent
from inference_portal.catalog.refusals import REFUSALS, GoldenMismatch
from inference_portal.jobs.quota import Full
from workers.formats import Invalid
from workers.model_store import UnknownModel


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the model and the reason."""
    parser.add_argument("model")
    parser.add_argument("--reason", default="", help="kept in the history")


def who() -> str:
    """Return who sits at the terminal."""
    return f"{getpass.getuser()} (manage.py)"


def operator(team: str | None = None) -> Caller:
    """Return `who` as an operator of the team, which owns the jobs that are made.

    Without a team it is the only one. Raises CommandError.
    """
    teams = list(Team.objects.filter(**({} if team is None else {"name": team})).order_by("name")[:2])
    if not teams:
        raise CommandError(f"There is no team{'' if team is None else f' {team}'}; `manage.py access list` shows all.")
    if len(teams) > 1:
        raise CommandError("There are several teams: name the one that the golden samples' job is for, with --team.")
    return Caller(teams[0].pk, Role.OPERATOR, who())


@contextlib.contextmanager
def refusals_told() -> Iterator[None]:
    """Turn a refusal into a CommandError."""
    try:
        yield
    except GoldenMismatch as mismatch:
        lines = "\n".join(f"  {difference}" for difference in mismatch.differences)
        raise CommandError(f"Nothing was released, the golden samples differ:\n{lines}") from mismatch
    except Invalid as invalid:
        raise CommandError("; ".join(f"{fault.pointer[1:]}: {fault.detail}" for fault in invalid.faults)) from invalid
    except (*REFUSALS, UnknownModel, Full) as refusal:
        raise CommandError(str(refusal)) from refusal


def told(event: ReleaseEvent) -> str:
    """Return what was done, and the traffic that follows."""
    parts = ", ".join(f"version {part['version']}: {part['weight']:.4g} %" for part in event.after)
    proof = f"{event.golden['rows']} golden samples are as expected; " if event.golden else ""
    return f"{proof}{event.model} version {event.version} {event.get_action_display()}; traffic now: {parts}"
