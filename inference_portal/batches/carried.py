"""What one run of a schedule could not predict and hands to the next one: with the policy `none`.

The next run has these rows after its own, as if they were the end of its data set.
"""

from typing import Any

from inference_portal.batches.models import Batch, Chunk
from inference_portal.batches.models.chunk import FAILED
from inference_portal.batches.policies import RetryPolicy, Verdict
from inference_portal.batches.states import State


def carried_from(batch: Batch) -> dict[str, Any] | None:
    """Return what a schedule's next run takes over from this ended one, for its `carried`; None: nothing.

    {"from": the batch's id, "rows": how many, "ranges": [{"rows", "source", "input", "files"}, …]}. From a run without
    an output, but for one in which just everything failed, it is what that had taken over itself.
    """
    everything = batch.error_code == Verdict.ALL_ROWS_FAILED
    if batch.state in (State.FAILED, State.CANCELLED) and not (batch.policy is RetryPolicy.NONE and everything):
        return batch.carried
    if batch.policy is not RetryPolicy.NONE or batch.state == State.SUCCEEDED:
        return None
    ranges = [
        {"rows": chunk.rows, "source": chunk.source, **of_input(batch, chunk)}
        for chunk in batch.chunks.filter(state=FAILED).order_by("number")
    ]
    return {"from": str(batch.id), "rows": sum(r["rows"] for r in ranges), "ranges": ranges} if ranges else None


def ranges_of(batch: Batch) -> list[dict[str, Any]]:
    """Return the ranges that the batch has taken over."""
    return [] if batch.carried is None else list(batch.carried["ranges"])


def of_input(batch: Batch, chunk: Chunk) -> dict[str, Any]:
    """Return the chunk's data set, as {"input", "files"}: the batch's own, or the one that the chunk came from."""
    taken_over = chunk.number - batch.planned["ranges"]
    if taken_over < 0:
        return {"input": batch.input, "files": _used(batch.planned["files"], chunk.source)}
    carried = ranges_of(batch)[taken_over]
    return {"input": carried["input"], "files": carried["files"]}


def _used(files: list[Any], source: dict[str, Any]) -> list[Any]:
    """Return those of the input's files that hold the chunk's rows: a folder of many would make large messages.

    All of them where the rows are read from something else, as those of a compressed file are.
    """
    named = {part["file"] for part in source.get("parts", [source]) if "file" in part}
    used = [each for each in files if each[0] in named]
    return used if len(used) == len(named) > 0 else files
