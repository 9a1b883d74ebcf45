"""The rows of a block that can be predicted, and why the others can't."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from workers.datasets import Block
from workers.failpoints import failpoint
from workers.preprocessing import BadData
from workers.served import Served


class Predicted(NamedTuple):
    """The outputs of the `good` rows (none: no outputs), labels as `Served.outputs` has them without texts; and column
    and reason of each of the others."""

    good: npt.NDArray[np.intp]
    outputs: dict[str, Any]
    failed: dict[int, tuple[str, str]]


def predict(served: Served, block: Block) -> Predicted:
    """Predict a block's rows, all that are right in one call: to the bit as each would be alone (on a CPU).

    A row fails for the first thing that is wrong with it: when it was read, by the signature, in pre-processing.
    """
    failed: dict[int, tuple[str, str]] = {}
    for fault in block.faults:
        failed.setdefault(fault.row, (fault.column, fault.reason))
    schema = served.release.schema
    for cell in schema.bad_rows(block.values):
        failed.setdefault(cell.row, (schema.names[cell.column], cell.reason))
    good = np.arange(len(block.values))
    if failed:
        good = np.delete(good, list(failed))
    while good.size:
        matrix = block.values if len(good) == len(block.values) else block.values[good]
        failpoint("worker.in_predict", matrix.data)
        try:
            return Predicted(good, served.outputs(matrix, texts=False), failed)
        except BadData as error:
            if not error.rows:
                raise
            # All that fail for one reason, so that this goes round as often as there are reasons, not rows.
            failed |= {int(good[bad.row]): (bad.column, bad.reason) for bad in error.rows}
            good = np.delete(good, [bad.row for bad in error.rows])
    return Predicted(good, {}, failed)
