"""Who may know whom."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

RUN_WITHOUT_DJANGO = """
import json, sys
for name in ("django", "rest_framework", "inference_portal"):
    sys.modules[name] = None
from workers import tasks
from workers.contract import Bundle, JobItem
from workers.model_store import ModelStore
from workers.config import model_store_dir
import numpy as np
release = ModelStore(model_store_dir()).get("wine")
golden = json.loads((release.folder / release.manifest.golden.file).read_text())
data = np.array(golden["inputs"], dtype="<f4")
bundle = Bundle("b", "wine", "1", release.manifest.sha256, data.shape[1], (JobItem("x", 1, len(data)),),
                data.tobytes())
engine, (outcome,) = tasks.run_bundle(Bundle.from_message(json.loads(json.dumps(bundle.to_message()))))
got = np.array(json.loads(outcome.outputs)[0]["data"]).reshape(-1, 3)
assert np.abs(got - golden["outputs"]["probability"]).max() <= 1e-5
assert sys.modules["django"] is None
"""


def test_a_worker_runs_a_bundle_where_django_can_not_be_imported(store: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_WITHOUT_DJANGO],
        cwd=ROOT,
        env=os.environ | {"MODEL_STORE": str(store)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_import_contracts_are_kept() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
