"""A short run of the fuzzer; the long one is `python -m tests.fuzz.decoders --inputs 200000`."""

import subprocess
import sys
from pathlib import Path


def test_no_broken_body_does_anything_but_be_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.decoders", "--inputs", "400", "--save", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_finding_is_saved_and_changes_the_exit_status(tmp_path: Path) -> None:
    program = (
        "import sys; from tests.fuzz import decoders; decoders.ALLOWED = ();"
        f"sys.argv[1:] = ['--inputs', '9', '--format', 'csv', '--save', {str(tmp_path)!r}]; sys.exit(decoders.main())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1
    assert "again: --format csv --seed 0 --only" in run.stdout
    assert list(tmp_path.iterdir())
