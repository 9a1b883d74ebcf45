"""A worker of the pool `gpu` starts where there is a GPU, with one process."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from workers import gpu_pool
from workers.app import app
from workers.config import ROOT
from workers.device import gpu_names


@pytest.mark.skipif(bool(gpu_names()), reason="this machine has a GPU")
@pytest.mark.parametrize("lane", ["gpu", "gpu.isolated"])
def test_without_a_gpu_the_worker_says_so_and_ends(tmp_path: Path, lane: str) -> None:
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", f"inference.{lane}", "-c", "1"]
    environment = {k: v for k, v in os.environ.items() if k != "BROKER_URL"} | {"RUN_DIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == os.EX_UNAVAILABLE, done.stdout + done.stderr
    assert "this machine has no GPU" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("lanes", "processes"), [(["inference.gpu"], 1), (["inference.cpu"], 4)])
def test_a_gpu_gets_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lanes: list[str], processes: int
) -> None:
    monkeypatch.setattr(gpu_pool, "gpu_names", lambda: ("a card",))
    monkeypatch.setattr(gpu_pool, "served_pools", lambda _: tuple(lane.removeprefix("inference.") for lane in lanes))
    worker = SimpleNamespace(app=app, concurrency=4)
    gpu_pool.prepare(worker)
    assert worker.concurrency == processes
    assert ("One process instead of 4" in capsys.readouterr().err) == (processes == 1)
