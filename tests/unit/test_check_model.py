"""A version tried in a process of its own, which may die of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit import boosters, builders
from workers import check_model
from workers.check_model import STEPS, check


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The folder of a right version."""
    return builders.train_tiny(tmp_path, "m", builders.OUTPUTS["two"]).parent


def first_problem(folder: Path) -> tuple[str, str]:
    report = check(folder)
    assert not report.ok
    return report.steps[-1].name, report.problems[0]


def test_a_right_version_passes_every_step(version: Path) -> None:
    report = check(version)
    assert report.ok, report
    assert [step.name for step in report.steps] == list(STEPS)
    assert "binary:logistic" in report.steps[2].seen
    assert report.steps[-1].seen == "as in golden.json"


def test_a_wrong_manifest_is_named_with_its_line(version: Path) -> None:
    path = version / "manifest.yaml"
    path.write_text(path.read_text().replace("xgboost", "xgbost"))
    step, problem = first_problem(version)
    assert (step, "manifest.yaml:4: runtime" in problem) == ("manifest", True)


def test_another_file_than_the_manifest_s_is_refused_before_it_is_read(version: Path) -> None:
    (version / "model.ubj").write_bytes(b"{}")
    assert first_problem(version)[0] == "sha256"
    (version / "model.ubj").unlink()
    assert first_problem(version) == ("sha256", "model.ubj: No such file or directory")


def test_a_broken_file_is_refused_without_xgboost(tmp_path: Path) -> None:
    sound = boosters.saved(boosters.train("binary:logistic"))
    folder = builders.write_release(tmp_path, "m", artifact=sound[:-100]).parent
    step, problem = first_problem(folder)
    assert (step, "truncated" in problem) == ("file", True)


def test_all_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    booster = boosters.train("binary:logistic")
    booster.set_attr(best_iteration="2")
    folder = builders.write_release(tmp_path, "m", artifact=boosters.saved(booster)).parent
    report = check(folder)
    assert report.steps[-1].name == "signature"
    assert [problem.partition(":")[0] for problem in report.problems] == ["columns", "tree_range"]


def test_golden_samples_that_differ_are_told(version: Path) -> None:
    path = version / "golden.json"
    golden = json.loads(path.read_text())
    path.write_text(json.dumps({"inputs": golden["inputs"], "outputs": {"probability": [0.5] * 4}}))
    step, problem = first_problem(version)
    assert (step, problem.startswith("golden samples differ: row 0, probability: expected 0.5")) == ("golden", True)


@pytest.mark.parametrize(
    ("death", "told"),
    [
        ("os.kill(os.getpid(), 11)", "the process died of it (SIGSEGV)"),
        ("os.kill(os.getpid(), 9)", "the process died of it (SIGKILL)"),
        ("os._exit(7)", "it ended with status 7"),
        ("bytearray(2**40)", "MemoryError"),
        ("time.sleep(60)", "it took longer than"),
    ],
)
def test_a_process_that_dies_or_hangs_is_survived(
    version: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, death: str, told: str
) -> None:
    """A custom step stands for XGBoost's native code, which no longer gets a file that it would die of."""
    (tmp_path / "deadly.py").write_text(f"import os, time\n{death}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("MODEL_STEP_PACKAGES", "deadly")
    path = version / "manifest.yaml"
    step = "preprocessing: [{step: custom, call: 'deadly:step', columns: [a], returns: [a]}]\n"
    path.write_text(path.read_text() + step)
    report = check(version, timeout=8 if "sleep" in death else 60)
    assert (report.ok, report.steps[-1].name) == (False, "load"), report
    assert told in report.problems[0]


def test_mutations_are_refused_or_harmless_and_survived(tmp_path: Path) -> None:
    """Some of the many of test_model_file.py, through the process itself."""
    random = np.random.default_rng(3)
    sound = boosters.saved(boosters.train("binary:logistic", rounds=2))
    columns = [{"name": name, "missing": True} for name in boosters.NAMES]
    for number in range(8):
        data = bytearray(sound)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(0, 256)
        folder = builders.write_release(tmp_path, f"m{number}", artifact=bytes(data), columns=columns).parent
        report = check(folder)
        assert not any("died" in problem or "status" in problem for problem in report.problems), report


def test_the_command_prints_the_report_and_fails_on_a_problem(version: Path) -> None:
    def run() -> tuple[int, dict[str, object]]:
        command = [sys.executable, "-m", "workers.check_model", str(version)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=check_model.ROOT, env=os.environ
        )
        return done.returncode, json.loads(done.stdout)

    status, report = run()
    assert (status, report["ok"]) == (0, True)
    (version / "manifest.yaml").write_text("!!python/object/apply:os.system ['echo']")
    status, report = run()
    assert (status, report["ok"]) == (1, False)
