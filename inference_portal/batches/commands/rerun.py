"""`manage.py batch rerun`: run a batch again that has ended."""

from argparse import ArgumentParser

from inference_portal.batches import fields
from inference_portal.batches.commands import acting, watch

HELP = "run a batch again that has ended: what failed, or with --retry-policy all everything"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare which, and how."""
    acting.add_batch(parser)
    parser.add_argument("--retry-policy", choices=fields.RERUN_POLICIES)
    parser.add_argument("--detach", action="store_true", help="don't watch it")


def run(*, batch: str, retry_policy: str | None, detach: bool, **options: object) -> None:
    """Run it again, and watch. Raises CommandError for what is refused, and for a batch that fails."""
    one = acting.batch_named(batch)
    with acting.refusals_told():
        fields.rerun(one.id, {"retry_policy": retry_policy}, acting.operator(one.team_id))
    print(one.id)
    if not detach:
        watch.watch(acting.batch_named(str(one.id)))
