"""Batches as they look in each situation, and files in the storage."""

import hashlib
from datetime import timedelta
from typing import Any

from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.batches.models import Batch
from inference_portal.batches.states import FINAL, State
from inference_portal.store import model_store
from workers.datasets import place

OUTPUT = b"id,probability\n" + b"".join(b"%d,0.5\n" % i for i in range(10_000))
ERRORS = b"row,column,reason\n" + b"".join(b'%d,hue,"no number, but ""x"""\n' % i for i in range(1_500))


def store(uri: str, data: bytes) -> dict[str, Any]:
    """Write a file; returns what a receipt says of it."""
    with place.writing(uri, replace=True) as file:
        file.write(data)
    return {"uri": uri, "rows": data.count(b"\n") - 1, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def make_batch(team: Team, state: State = State.QUEUED, **fields: Any) -> Batch:
    """Store a batch of the wine model as it is in this state, without its steps."""
    now = timezone.now()
    usual: dict[str, Any] = {
        "team": team,
        "submitted_by": "test",
        "model": "wine",
        "version": "1",
        "sha256": model_store().get("wine", "1").manifest.sha256,
        "input": {"uri": f"store://uploads/{team.pk}/0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11/wines.csv", "format": "auto"},
        "output": {"uri": None, "format": "csv"},
        "state": state.value,
    }
    if state is not State.QUEUED:
        usual |= {
            "started_at": now,
            "rows_total": 1_000,
            "rows_done": 500,
            "chunks_total": 10,
            "chunks_done": 5,
            "plan": {"columns": [], "files": [], "ranges": [], "output": "", "run": "r"},
        }
    if state in FINAL:
        usual |= {"finished_at": now}
    if state is State.FAILED:
        usual |= {"error_code": "too-many-errors", "error_message": "600 of 1,000 rows failed"}
    if state is State.RUNNING:
        usual |= {"eta": now + timedelta(seconds=10)}
    return Batch.objects.create(**{**usual, **fields})


def make_done(team: Team, *, errors: bytes | None = None, **fields: Any) -> Batch:
    """Store a batch whose files lie in the storage."""
    state = State.SUCCEEDED if errors is None else State.PARTIAL
    batch = make_batch(team, state, **fields)
    batch.receipt = {
        "model": "wine",
        "output": store(f"{batch.folder}/output.csv", OUTPUT),
        "errors": None if errors is None else store(f"{batch.folder}/errors.csv", errors),
    }
    batch.save(update_fields=["receipt"])
    return batch


def add_chunks(batch: Batch, count: int, **fields: Any) -> None:
    """Store chunks of 100 rows each."""
    for number in range(count):
        batch.chunks.create(number=number, first_row=100 * number, rows=100, source={}, **fields)
