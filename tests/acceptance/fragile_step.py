"""A model's pre-processing step that fails and dawdles when a test says so, by files in the system's run folder.

It changes nothing: whatever went wrong, predictions are those of the model alone.
"""

import os
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

Columns = dict[str, npt.NDArray[np.float32]]
# A row with this in column `a` is one that the step can fail for.
POISON = 77.5
# It fails as often as there are files of such names, for each of which it takes one away.
FAILS = "step-fails-{}"
# While there is a file of this name, each call takes so many seconds.
DAWDLES, SECONDS = "step-dawdles", 0.25


def handled(columns: Columns) -> Columns:
    """Return `b` as it is. Raises RuntimeError when it shall."""
    folder = Path(os.environ["RUN_DIR"])
    if (folder / DAWDLES).exists():
        time.sleep(SECONDS)
    if (columns["a"] == np.float32(POISON)).any():
        for mark in folder.glob(FAILS.format("*")):
            mark.unlink()
            raise RuntimeError("told to fail")
    return {"b": columns["b"]}
