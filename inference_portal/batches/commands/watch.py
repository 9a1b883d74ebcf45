"""`manage.py batch watch`: a progress bar with rows a second and the time left, until the batch has ended."""

import sys
import time
from argparse import ArgumentParser

from django.core.management.base import CommandError
from django.utils import timezone

from inference_portal.batches.commands import acting
from inference_portal.batches.models import Batch
from inference_portal.batches.progress import pace_text, percent, rows_text
from inference_portal.batches.states import State

HELP = "show a batch's progress until it has ended; the exit status tells whether it has an output"
LOOK_SECONDS = 0.5
# Where the output is no terminal a line is printed so often, and at each change of state.
LINE_SECONDS = 10.0
WIDTH = 30


def add_arguments(parser: ArgumentParser) -> None:
    """Declare which."""
    acting.add_batch(parser)


def run(*, batch: str, **options: object) -> None:
    """Watch it. Raises CommandError for one that fails."""
    watch(acting.batch_named(batch))


def watch(batch: Batch) -> None:
    """Show the progress until the end. Raises CommandError unless there is an output then."""
    bar = _Terminal() if sys.stdout.isatty() else _Lines()
    try:
        while True:
            bar.show(batch)
            if batch.is_final:
                break
            time.sleep(LOOK_SECONDS)
            batch = Batch.objects.defer("plan").get(id=batch.id)
    except KeyboardInterrupt:
        print(f"\nIt goes on; `manage.py batch watch {batch.id}` shows more, `… cancel …` ends it.")
        return
    bar.end()
    if batch.state not in (State.SUCCEEDED, State.PARTIAL):
        raise CommandError(f"batch {batch.id} {batch.state}: {batch.error_message or 'there is no output'}")
    if batch.receipt is not None:
        print(f"output {batch.receipt['output']['uri']}")


def line(batch: Batch) -> str:
    """Return the progress as one line."""
    done = round(WIDTH * percent(batch) / 100)
    parts = [rows_text(batch), pace_text(batch, timezone.now()), batch.note, "AT RISK" if batch.at_risk else ""]
    bar = f"[{'#' * done}{'.' * (WIDTH - done)}] {percent(batch):3.0f} %"
    return "  ".join([bar, batch.state, *(part for part in parts if part)])


class _Terminal:
    """One line that is written over."""

    def show(self, batch: Batch) -> None:
        # Back to the line's beginning, and what stands behind the text is erased.
        print(f"\r{line(batch)}\033[K", end="", flush=True)

    def end(self) -> None:
        print()


class _Lines:
    """Lines one below the other, for logs."""

    def __init__(self) -> None:
        self._state, self._at = "", 0.0

    def show(self, batch: Batch) -> None:
        if batch.state != self._state or time.monotonic() - self._at >= LINE_SECONDS:
            self._state, self._at = batch.state, time.monotonic()
            print(line(batch), flush=True)

    def end(self) -> None:
        """Leave it at that."""
