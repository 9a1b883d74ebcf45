"""Files that people and programs send for batches: written to the system's own storage as they come in."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO
from uuid import uuid4

from django.utils import timezone

from inference_portal.batches.models import Batch
from inference_portal.batches.schedules.models import Schedule
from inference_portal.jobs.retention import result_limit
from workers.datasets import DatasetError, Unreachable, place

# With what stands before it, a name still fits into any storage's limits.
MAX_NAME_LENGTH = 100
# So much of a file is in memory at once.
CHUNK_BYTES = 1024 * 1024
# How often a process looks for a team's old uploads.
LOOK_SECONDS = 600.0
_looked: dict[int, float] = {}
_lock = threading.Lock()


class TooManyBytes(ValueError):
    """The file is larger than MAX_UPLOAD_BYTES allows."""


class Upload:
    """One file on its way into the storage; never more of it in memory than was written last."""

    def __init__(self, uri: str, file: BinaryIO, most: int) -> None:
        self.uri = uri
        self.bytes = 0
        self._file, self._most, self._digest = file, most, hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Return that of what was written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Add to it. Raises TooManyBytes, and OSError, of which `receiving` makes Unreachable."""
        self.bytes += len(data)
        if self.bytes > self._most:
            raise TooManyBytes(f"The file has more than {self._most:,} bytes, which MAX_UPLOAD_BYTES allows.")
        self._file.write(data)
        self._digest.update(data)


@contextmanager
def receiving(*, team_id: int, name: str, most: int) -> Iterator[Upload]:
    """Take in a file of at most `most` bytes. It appears when the block ends, whole; after an error nothing is left.

    Raises TooManyBytes, Unreachable when the storage can't take it.
    """
    uri = f"{_folder(team_id)}/{uuid4()}/{safe_name(name)}"
    try:
        with place.writing(uri, replace=False) as file:
            yield Upload(uri, file, most)
        if _is_due(team_id):
            forget_old(team_id)
    except DatasetError as error:
        # The place is ours: whatever is wrong with it, it isn't the sender who can mend it.
        raise Unreachable(str(error)) from error


def forget_old(team_id: int) -> int:
    """Remove the team's uploads that are as old as results may grow and that nothing can read any more.

    Whoever has access to the storage does it when something new comes: only then it grows. Returns their number.
    """
    before = result_limit(timezone.now())
    if before is None:
        return 0
    old = [name for name, changed in place.folders(_folder(team_id)).items() if changed < before.timestamp()]
    unused = [name for name in old if not _is_used(f"{_folder(team_id)}/{name}")]
    for name in unused:
        place.remove_tree(f"{_folder(team_id)}/{name}")
    return len(unused)


def _is_used(folder: str) -> bool:
    """Tell whether a batch that may still run, or run again, reads it, or a schedule."""
    batches = Batch.objects.filter(purged_at=None, input__uri__startswith=folder)
    return batches.exists() or Schedule.objects.filter(batch__input__uri__startswith=folder).exists()


def _is_due(team_id: int) -> bool:
    now = time.monotonic()
    with _lock:
        due = now - _looked.get(team_id, -LOOK_SECONDS) >= LOOK_SECONDS
        if due:
            _looked[team_id] = now
    return due


def _folder(team_id: int) -> str:
    return f"store://uploads/{team_id}"


def safe_name(name: str) -> str:
    """Return a name that any storage takes and that says the same about the format."""
    # The end says what is in it. Names that begin with . or _ are left out when a folder is read.
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-MAX_NAME_LENGTH:].lstrip("._-")
    return re.sub(r"\.{2,}", ".", safe) or "data"
