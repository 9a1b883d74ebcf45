"""`python -m workers.serve` as a process of its own, on a port of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.ports import free_port
from tests.stack import ROOT, wait_for


@contextmanager
def serving(model: str, *options: str, store: Path, log: Path, port: int = 0) -> Iterator[str]:
    """Yield its address once it is ready."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.serve", "--model", model, "--port", str(port), *options],
            cwd=ROOT,
            env=os.environ | {"MODEL_STORE": str(store)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: process.poll() is not None or _is_ready(url), 60, log.read_text)
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
