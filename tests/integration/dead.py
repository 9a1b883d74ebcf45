"""Dead letters and parked messages as rows, and the models that they are about."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.jobs.models import Attempt, Job, ParkedMessage
from inference_portal.jobs.states import State
from inference_portal.store import model_store
from tests.integration.rows import make_final
from tests.unit.builders import OUTPUTS, write_release
from workers.contract import ErrorCode

COLUMNS = [{"name": "a"}, {"name": "b", "missing": True}, {"name": "c", "range": [-100, 100]}]
MATRIX = np.array([[1.5, np.nan, 0.1], [2.5, 3.5, -4.0]], dtype="<f4")
# The model `m`; the file of each version is its number.
VERSIONS: dict[str, dict[str, Any]] = {
    "1": {},
    # Other places, and one column less.
    "2": {"columns": [COLUMNS[2], COLUMNS[0]], "pool": "gpu"},
    "3": {"columns": [*COLUMNS, {"name": "d"}, {"name": "e/f"}]},
    "4": {"output": OUTPUTS["number"]},
    "5": {"columns": [COLUMNS[0], {"name": "b"}, {"name": "c", "range": [0, 1]}]},
}


@contextmanager
def store(settings: Any, folder: Path) -> Iterator[None]:
    """Serve the model `m` beside the wine model while the block runs."""
    wine = settings.MODEL_STORE / "wine"
    settings.MODEL_STORE = folder
    for version, fields in VERSIONS.items():
        write_release(folder, "m", version, version.encode(), **({"columns": COLUMNS} | fields))
    (folder / "wine").symlink_to(wine)
    model_store.cache_clear()
    yield
    model_store.cache_clear()


def dead(team: Team, **fields: Any) -> Job:
    """Store a dead letter of the model `m` that has been through everything."""
    now = timezone.now()
    usual: dict[str, Any] = {
        "model": "m",
        "version": "1",
        "sha256": sha256(fields.get("version", "1").encode()).hexdigest(),
        "rows": len(MATRIX),
        "input": MATRIX.tobytes(),
        "reply": {"format": "v2", "id": "mine", "outputs": ["label"]},
        "attempt": 3,
        "failures": 3,
        "isolated": True,
        "priority": 0,
        "ordering_key": "k",
        "expires_at": now + timedelta(hours=1),
        "not_before": now,
        "queued_at": now - timedelta(hours=2),
        "accepted_at": now - timedelta(hours=2),
        "started_at": now,
        "sent_at": now,
        "worker": "cpu@host/1",
        "host": "machine-5",
        "device": "cpu",
        "error_code": ErrorCode.WORKER_LOST,
        "error_message": "it died",
    }
    job = make_final(team, State.DEAD_LETTERED, **{**usual, **fields})
    for number in range(1, job.attempt + 1):
        Attempt.objects.create(
            job=job, number=number, finished_at=now, code="worker-lost", message="died", traceback=f"Traceback {number}"
        )
    return job


def park(**fields: Any) -> ParkedMessage:
    """Store a message that nobody could read."""
    usual: dict[str, Any] = {
        "digest": uuid4().hex,
        "queue": "inference.cpu",
        "reason": "rejected",
        "error": "UnreadableMessage: not a bundle",
        "headers": '{"task": "other"}',
        "body": b"body",
        "size": 4,
    }
    return ParkedMessage.objects.create(**{**usual, **fields})
