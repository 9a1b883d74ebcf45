"""`manage.py batch cancel`."""

from argparse import ArgumentParser

from django.core.management.base import CommandError

from inference_portal.batches.commands import acting
from inference_portal.batches.services import batch_cancel

HELP = "cancel a batch; what workers still compute for it is thrown away"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare which."""
    acting.add_batch(parser)


def run(*, batch: str, **options: object) -> None:
    """Cancel it. Raises CommandError for one that has ended."""
    one = acting.batch_named(batch)
    if not batch_cancel(batch_id=one.id, caller=acting.operator(one.team_id)):
        raise CommandError(f"batch {one.id} has ended already")
    print(f"batch {one.id} cancelled")
