"""`manage.py batch status`: one batch with its failed chunks, or the last ones of all teams."""

import sys
from argparse import ArgumentParser

import orjson

from inference_portal.batches.commands import acting
from inference_portal.batches.commands.watch import line
from inference_portal.batches.models import Batch

HELP = "how far a batch is, and what failed; without an id: the last batches"
LAST = 20
MAX_FAILED = 20


def add_arguments(parser: ArgumentParser) -> None:
    """Declare which."""
    parser.add_argument("batch", nargs="?", help="its id, or the beginning of it")


def run(*, batch: str | None, **options: object) -> None:
    """Print it. Raises CommandError."""
    if batch is None:
        last = Batch.objects.defer("plan").order_by("-created_at", "-id")[:LAST]
        # In one write: `| head -1` closes the pipe once it has its line.
        sys.stdout.write(
            "".join(
                f"{each.id}  {each.created_at:%Y-%m-%d %H:%M}  {each.model}:{each.version}  {line(each)}\n"
                for each in last
            )
        )
        return
    one = acting.batch_named(batch)
    print(f"batch {one.id} of team {one.team.name}: {one.model}:{one.version}, attempt {one.attempt}")
    print(f"input {one.input['uri']}")
    print(line(one))
    if one.deadline is not None:
        print(f"deadline {one.deadline:%Y-%m-%d %H:%M:%S} UTC{', at risk' if one.at_risk else ''}")
    if one.error_message:
        print(f"{one.error_code}: {one.error_message}")
    for chunk in one.chunks.filter(state="failed").defer("source").order_by("number")[:MAX_FAILED]:
        print(f"chunk {chunk.number}, rows {chunk.first_row:,} and on ({chunk.rows:,}): {chunk.reason}")
    for event in one.events.all():
        print(f"{event.at:%Y-%m-%d %H:%M:%S}  {event.get_kind_display()}  {event.text}".rstrip())
    if one.receipt is not None:
        print(orjson.dumps(one.receipt, option=orjson.OPT_INDENT_2).decode())
