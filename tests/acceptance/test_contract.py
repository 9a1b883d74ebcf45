"""The live portal against its OpenAPI document; the long run is `python -m tests.fuzz.contract --cases 20000`."""

import subprocess
import sys

from tests.stack import ROOT


def test_no_request_gets_an_answer_that_the_openapi_document_does_not_know() -> None:
    # In a process of its own: schemathesis' hooks, checks and media types are global.
    command = [sys.executable, "-m", "tests.fuzz.contract", "--cases", "0", "--examples", "8", "--seed", "7"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
