"""`manage.py batch run | status | watch | rerun | cancel`."""

import re
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.batches.commands import watch
from inference_portal.batches.models import Batch
from inference_portal.batches.states import State
from tests.integration.made_batches import ERRORS, add_chunks, make_batch, make_done
from tests.integration.rows import make_team
from workers.datasets import place

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, team: Team) -> None:
    """A storage of this test's own, a folder that batches may use, and one team."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DATA_FOLDERS", str(tmp_path / "shared"))


def batch(*arguments: str) -> None:
    call_command("batch", *arguments)


def test_a_file_of_this_machine_is_uploaded_and_run(
    team: Team, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wines.csv").write_bytes(b"alcohol\n1\n")
    batch("run", "wine", str(tmp_path / "wines.csv"), "--detach", "--keep", "id", "--keep", "name", "--no-header")
    made = Batch.objects.get()
    assert capsys.readouterr().out == f"{made.id}\n"
    assert (made.team, made.keep_columns, made.input["header"]) == (team, ["id", "name"], False)
    assert made.submitted_by.endswith("(manage.py)")
    with place.open_input(made.input["uri"]) as file:
        assert file.read() == b"alcohol\n1\n"


def test_what_is_refused_is_told_with_its_field(team: Team, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/shared/a.csv"
    for arguments, said in (
        (["wine", "nowhere.csv"], "is no file"),
        (["wine", "file:///etc/passwd"], "DATA_FOLDERS"),
        (["nothing", uri], "nothing"),
        (["wine", uri, "--chunk-rows", "0"], "chunk_rows: expected"),
        (["wine", uri, "--deadline", "tomorrow"], "deadline: expected a time"),
        (["wine", uri, "--delimiter", "::"], "input/delimiter: expected one character"),
        (["wine", uri, "--team", "none"], "There is no team none"),
    ):
        with pytest.raises(CommandError, match=said):
            batch("run", *arguments, "--detach")
    make_team("other")
    with pytest.raises(CommandError, match="--team"):
        batch("run", "wine", uri)
    assert not Batch.objects.exists()
    batch("run", "wine", uri, "--team", "other", "--detach", "--retry-policy", "all", "--version", "1")
    assert Batch.objects.get().team.name == "other"


def test_status_lists_and_shows_one(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    running = make_batch(team, State.RUNNING, eta=timezone.now() + timedelta(seconds=100), pace=5.0, rows_failed=7)
    add_chunks(running, 2, state="failed", reason="lost")
    done = make_done(team, errors=ERRORS)
    batch("status")
    out = capsys.readouterr().out
    assert (
        str(running.id) in out and "[###############...............]  50 %  running  500 of 1,000 rows, 7 failed" in out
    )
    assert "5 rows/s, 1 min 40 s left" in out
    batch("status", str(running.id)[:13])
    assert "chunk 1, rows 100 and on (100): lost" in capsys.readouterr().out
    batch("status", str(done.id))
    assert '"sha256"' in capsys.readouterr().out
    for wrong, said in (("zz", "is no id"), ("0" * 40, "is no id"), ("00000000", "There is no batch")):
        with pytest.raises(CommandError, match=said):
            batch("status", wrong)


def test_cancel_and_rerun(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_batch(team, State.RUNNING)
    with pytest.raises(CommandError, match="only one that has ended"):
        batch("rerun", str(made.id), "--detach")
    batch("cancel", str(made.id))
    with pytest.raises(CommandError, match="ended already"):
        batch("cancel", str(made.id))
    batch("rerun", str(made.id), "--retry-policy", "all", "--detach")
    made.refresh_from_db()
    assert (made.state, made.attempt) == ("queued", 2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", [State.SUCCEEDED, State.PARTIAL, State.FAILED, State.CANCELLED])
def test_watch_prints_each_state_and_fails_unless_there_is_an_output(
    team: Team, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, end: State
) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)
    made = make_batch(team, State.RUNNING)

    def finish() -> None:
        threading.Event().wait(0.3)
        Batch.objects.filter(id=made.id).update(state=end, finished_at=timezone.now(), rows_done=1_000, eta=None)
        connections.close_all()

    ending = threading.Thread(target=finish, daemon=True)
    ending.start()
    if end in (State.SUCCEEDED, State.PARTIAL):
        batch("watch", str(made.id))
    else:
        with pytest.raises(CommandError, match=f"{made.id} {end}"):
            batch("watch", str(made.id))
    ending.join()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" %  ")[1].split("  ")[0] for line in lines] == ["running", end]


def test_on_a_terminal_one_line_is_written_over(
    team: Team, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    batch("watch", str(make_done(team).id))
    out = capsys.readouterr().out
    bar, output, _ = out.split("\n")
    assert out.startswith("\r[") and bar.endswith("\033[K")
    assert re.fullmatch("output store://batches/.*/output.csv", output)
