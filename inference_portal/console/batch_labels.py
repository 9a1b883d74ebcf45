"""How a batch looks in lists and on its page: its state's label, its progress bar."""

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from inference_portal.batches.models import Batch
from inference_portal.batches.progress import pace_text, percent, rows_text
from inference_portal.batches.states import State

# The colours are Unfold's kinds of label.
STATE_COLOURS = {
    State.QUEUED: "info",
    State.RUNNING: "primary",
    State.MERGING: "primary",
    State.SUCCEEDED: "success",
    State.PARTIAL: "warning",
    State.FAILED: "danger",
    State.CANCELLED: "",
}
CHUNK_COLOURS = {"open": "info", "done": "success", "failed": "danger"}


def batch_label(state: str) -> dict[str, str]:
    """Return what the template of a label needs."""
    return {"type": STATE_COLOURS.get(State(state), ""), "text": state}


def progress_bar(batch: Batch) -> SafeString:
    """Return the bar with its text; a bar of failed rows stands beside that of the others."""
    total = batch.rows_total or 0
    failed = 100.0 * batch.rows_failed / total if total else 0.0
    return format_html(
        '<div class="portal-progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{}">'
        '<div class="portal-bar"><i style="width: {}%"></i><b style="width: {}%"></b></div>'
        "<small>{}</small></div>",
        f"{percent(batch):.0f}",
        f"{max(0.0, percent(batch) - failed):.2f}",
        f"{failed:.2f}",
        progress_text(batch),
    )


def progress_text(batch: Batch) -> str:
    """Return the progress in words."""
    return ", ".join(part for part in (rows_text(batch), pace_text(batch, timezone.now())) if part)
