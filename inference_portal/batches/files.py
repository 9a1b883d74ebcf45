"""The files that a batch has written: where they are, and what they are called when somebody fetches them."""

from dataclasses import dataclass
from typing import Any

from inference_portal.batches.models import Batch

NO_ERRORS = "row,column,reason\n"
_TYPES = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv; charset=utf-8"}


class NotThere(RuntimeError):
    """The batch has no such file yet, or ended without one."""


class Removed(RuntimeError):
    """The file grew old and was removed, or somebody took it away."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in the storage, as the merge wrote it."""

    uri: str
    bytes: int
    sha256: str
    name: str
    type: str


def output(batch: Batch) -> Stored:
    """Return the predictions. Raises NotThere, Removed."""
    written = _receipt(batch)["output"]
    kind = batch.output["format"]
    name = f"{batch.model}-{batch.version}-{str(batch.id)[:8]}.{kind}"
    return Stored(written["uri"], written["bytes"], written["sha256"], name, _TYPES[kind])


def errors(batch: Batch) -> Stored | None:
    """Return the rows that failed; None when none did. Raises NotThere, Removed."""
    written = _receipt(batch)["errors"]
    if written is None:
        return None
    name = f"{batch.model}-{batch.version}-{str(batch.id)[:8]}-errors.csv"
    return Stored(written["uri"], written["bytes"], written["sha256"], name, _TYPES["csv"])


def _receipt(batch: Batch) -> dict[str, Any]:
    """Return what tells of the files. Raises NotThere, Removed."""
    if batch.purged_at is not None:
        raise Removed(f"The files of batch {batch.id} were removed at {batch.purged_at:%Y-%m-%d %H:%M} UTC.")
    if batch.receipt is None or not batch.is_final:
        why = f": {batch.error_message}" if batch.error_message else ""
        raise NotThere(f"The batch is {batch.state}{why}" + ("" if batch.is_final else "; its files aren't there yet."))
    receipt: dict[str, Any] = batch.receipt
    return receipt
