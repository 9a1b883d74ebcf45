"""The batch pool may be empty between runs: a run says that it waits, and goes on when a worker comes."""

import configparser
import contextlib
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.acceptance import batches
from tests.stack import ROOT, Stack, running, wait_for


@contextlib.contextmanager
def worker(stack: Stack) -> Iterator[None]:
    """Run a worker of the batch pool, as the supervisor would."""
    programs = configparser.RawConfigParser()
    programs.read(ROOT / "deploy" / "supervisord.conf")
    command = programs["program:worker-batch"]["command"].replace("%%", "%")
    (supervisor,) = stack.supervisors
    with (stack.folder / "logs" / "worker-batch.log").open("wb") as log:
        process = subprocess.Popen(
            shlex.split(command), cwd=ROOT, env=supervisor.environ(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        # The stack ends its child.
        process.kill()
        process.wait(10)


def test_a_run_says_that_it_waits_and_goes_on_when_a_worker_comes(tmp_path: Path) -> None:
    values = batches.rows(500)
    with running(Stack(tmp_path / "run", START_BATCH="0", **batches.variables(tmp_path))) as stack:
        assert stack.processes("batch@") == []
        uri = batches.upload(stack, "rows.parquet", batches.parquet(values))
        batch = batches.begin(stack, uri, deadline="2100-01-01T00:00:00Z")
        wait_for(lambda: batches.look(stack, batch)["note"], 30, stack.logs)
        found = batches.look(stack, batch)
        assert (found["state"], found["note"], found["at_risk"]) == ("queued", "waits for batch workers", True)
        assert "waits for batch workers" in batches.told(stack, batch)
        # Nobody else waits for it.
        body = {"inputs": [{"name": "t", "shape": [1, 3], "datatype": "FP32", "data": [0.1, 0.2, 0.3]}]}
        assert stack.infer("m", body).status_code == 200

        with worker(stack):
            found = batches.ended(stack, batch)
        assert (found["state"], found["note"], found["at_risk"]) == ("succeeded", "", False)
        got = batches.probabilities(batches.as_table(batches.output(stack, batch)))
        assert np.array_equal(got, batches.direct(stack, values))
