"""Failpoints do what FAILPOINTS says, that often and no oftener, and nothing without it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stack import ROOT

REACH = "from workers.failpoints import failpoint; failpoint('here'); print('went on')"


def reach(folder: Path, failpoints: str, code: str = REACH) -> subprocess.CompletedProcess[str]:
    """Reach the place `here` in a process of its own."""
    variables = os.environ | {"RUN_DIR": str(folder), "FAILPOINTS": failpoints}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True)


def marks(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("failpoint.*"))


@pytest.mark.parametrize("failpoints", ["", "elsewhere=kill"])
def test_nothing_happens_where_nothing_is_asked_for(tmp_path: Path, failpoints: str) -> None:
    assert reach(tmp_path, failpoints).stdout == "went on\n"
    assert marks(tmp_path) == []


def test_a_kill_without_a_number_fires_once(tmp_path: Path) -> None:
    assert [reach(tmp_path, "here=kill").returncode for _ in range(2)] == [-signal.SIGKILL, 0]
    assert marks(tmp_path) == ["failpoint.here"]


def test_a_kill_with_a_number_fires_that_often_and_leaves_a_mark_each_time(tmp_path: Path) -> None:
    statuses = [reach(tmp_path, "elsewhere=kill,here=kill*3").returncode for _ in range(5)]
    assert statuses == [-signal.SIGKILL] * 3 + [0] * 2
    assert marks(tmp_path) == ["failpoint.here.1", "failpoint.here.2", "failpoint.here.3"]


def test_a_percentage_spreads_the_kills_over_the_passes(tmp_path: Path) -> None:
    passes = "from workers.failpoints import failpoint\nfor number in range(1000): failpoint('here'); print(number)"
    sleeps = reach(tmp_path, "here=sleep:0*1000%10", passes)
    assert sleeps.returncode == 0, sleeps.stderr
    assert 50 < len(marks(tmp_path)) < 200


def test_data_can_be_asked_for(tmp_path: Path) -> None:
    code = "from workers.failpoints import failpoint; failpoint('here', b'harmless'); failpoint('here', b'a poison')"
    assert reach(tmp_path, f"here@{b'poison'.hex()}=kill*5", code).returncode == -signal.SIGKILL
    assert reach(tmp_path, f"here@{b'absent'.hex()}=kill", code).returncode == 0
    several = f"here@{b'absent'.hex()}=kill,here@{b'poison'.hex()}=exit*5"
    assert reach(tmp_path, several, code).returncode == 1
    assert marks(tmp_path) == ["failpoint.here.1", "failpoint.here.2"]


@pytest.mark.parametrize(("action", "status"), [("segfault", -signal.SIGSEGV), ("exit", 1)])
def test_a_process_ends_as_broken_native_code_ends_it(tmp_path: Path, action: str, status: int) -> None:
    done = reach(tmp_path, f"here={action}")
    assert (done.returncode, done.stdout) == (status, "")


def test_memory_is_exhausted_and_there_is_some_again_afterwards(tmp_path: Path) -> None:
    code = f"""
try:
    {REACH}
except MemoryError:
    print(len(bytearray(2**28)))
"""
    done = reach(tmp_path, "here=memory", code)
    assert done.stdout == f"{2**28}\n", done.stderr


def test_kill_parent_ends_the_parent_and_the_process_itself(tmp_path: Path) -> None:
    # The child holds the parent's output: this call returns once both are gone.
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {REACH!r}]); print('the parent went on')"
    done = reach(tmp_path, "here=kill-parent", code)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


def test_stop_freezes_every_thread_and_somebody_wakes_the_process(tmp_path: Path) -> None:
    code = f"""
import threading, time
ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        time.sleep(0.01)
threading.Thread(target=tick, daemon=True).start()
time.sleep(0.1)
{REACH}
time.sleep(0.1)
print(max(b - a for a, b in zip(ticks, ticks[1:])))
"""
    done = reach(tmp_path, "here=stop:1", code)
    said, longest = done.stdout.splitlines()
    assert said == "went on"
    assert float(longest) > 0.9


def test_sleep_holds_up_the_thread(tmp_path: Path) -> None:
    start = time.monotonic()
    assert reach(tmp_path, "here=sleep:1").stdout == "went on\n"
    assert time.monotonic() - start > 1


def test_a_spelling_mistake_is_told(tmp_path: Path) -> None:
    done = reach(tmp_path, "here=kil")
    assert "FAILPOINTS: here=kil: use kill, kill-parent, segfault, exit, memory, stop:<seconds> or" in done.stderr
