"""Whether a version can be served, tried in a process of its own that may die: `python -m workers.check_model FOLDER`.

What loads a model file first should have nothing to lose. The process gets limited memory and time, and tells each step
as it ends, so that the step that killed it is known.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from workers.config import ROOT

# The steps in their order, in `workers/tried_model.py`.
STEPS = {
    "manifest": "the manifest is read",
    "sha256": "the model file is the one that the manifest names",
    "file": "the model file is sound, read without XGBoost",
    "signature": "the manifest's columns and outputs are the model's",
    "load": "XGBoost loads it and predicts",
    "golden": "the golden samples give what is expected of them",
}
TIMEOUT_SECONDS = 120.0
# Of a process that has a thread or two; enough for a model file of some hundred MB.
MEMORY_BYTES = 6 * 2**30
CPU_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Step:
    """One step that was tried: what is wrong (nothing: it passed), and what was seen."""

    name: str
    problems: tuple[str, ...] = ()
    seen: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The steps that were tried, in the order of STEPS; after one with a problem no other is tried."""

    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """Whether every step passed."""
        return len(self.steps) == len(STEPS) and not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, in words."""
        return tuple(problem for step in self.steps for problem in step.problems)


def check(folder: Path, *, timeout: float = TIMEOUT_SECONDS) -> Report:
    """Try the version in a folder `<model>/<version>`. Returns what was found; never raises for the model's content."""
    command = [sys.executable, "-m", "workers.tried_model", str(folder.resolve())]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(  # noqa: S603
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            told, complaints = process.communicate(timeout=timeout)
            end = _end(process.returncode, complaints)
        except subprocess.TimeoutExpired:
            process.kill()
            told, _ = process.communicate()
            end = f"it took longer than {timeout:g} s and was ended"
    steps = _steps(told)
    if len(steps) < len(STEPS) and not any(step.problems for step in steps):
        name = tuple(STEPS)[len(steps)]
        steps += (Step(name, (f"{STEPS[name]}: {end}",)),)
    return Report(steps)


def _steps(told: bytes) -> tuple[Step, ...]:
    # A line that the process could not finish is none.
    lines = [line for line in told.splitlines(keepends=True) if line.endswith(b"\n")]
    data = [json.loads(line) for line in lines]
    return tuple(Step(each["name"], tuple(each["problems"]), each["seen"]) for each in data)


def _end(status: int, complaints: bytes) -> str:
    if status >= 0:
        last = complaints.decode(errors="replace").strip().splitlines()[-1:]
        return f"it ended with status {status}: {''.join(last)}"
    if status == -signal.SIGXCPU:
        return f"it took more than {CPU_SECONDS} s of the processor and was ended"
    return f"the process died of it ({signal.Signals(-status).name})"


if __name__ == "__main__":
    report = check(Path(sys.argv[1]))
    print(json.dumps({"ok": report.ok, "steps": [asdict(step) for step in report.steps]}, indent=2))
    sys.exit(not report.ok)
