"""`manage.py model release | rollback | retire | list`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from inference_portal.accounts.models import Team
from inference_portal.catalog.models import ReleaseEvent
from inference_portal.store import model_store
from tests.integration.rows import make_team
from tests.integration.versions import spoil, versions

pytestmark = pytest.mark.django_db


@pytest.fixture
def m(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path, team: Team) -> Iterator[Path]:
    with versions(monkeypatch, settings, tmp_path, "1", "2", "3") as folder:
        yield folder


def model(*arguments: str) -> None:
    call_command("model", *arguments)


def test_a_version_is_released_rolled_back_and_retired(m: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model("release", "m", "2", "--weight", "20", "--reason", "try it")
    assert capsys.readouterr().out == (
        "4 golden samples are as expected; m version 2 released; traffic now: version 1: 80 %, version 2: 20 %\n"
    )
    (event,) = ReleaseEvent.objects.all()
    assert event.reason == "try it" and event.who.endswith(" (manage.py)")
    model("release", "m", "3")
    model("rollback", "m")
    assert "m version 3 rolled back; traffic now: version 1: 80 %, version 2: 20 %" in capsys.readouterr().out
    model("retire", "m", "1")
    assert "m version 1 retired; traffic now: version 2: 100 %" in capsys.readouterr().out
    model("list", "m")
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table == [
        ["model", "version", "state", "traffic", "description"],
        ["m", "1", "retired", "–"],
        ["m", "2", "serving", "100", "%"],
        ["m", "3", "standby", "–"],
    ]


def test_the_list_has_all_models_and_says_what_is_wrong(m: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model("release", "m", "2", "--weight", "50")
    (m / "2" / "model.ubj").write_bytes(b"another one")
    model_store.cache_clear()
    model("list")
    out = capsys.readouterr().out
    assert "wine" in out and "m: Version 2 takes no traffic: the store lacks it" in out
    assert "not served: " in out and "/m/2/manifest.yaml:" in out


def test_a_refusal_is_told_with_the_differences_and_the_exit_status_says_it(m: Path) -> None:
    spoil(m / "2")
    with pytest.raises(CommandError) as refusal:
        model("release", "m", "2")
    first, *differences = str(refusal.value).splitlines()
    assert first == "Nothing was released, the golden samples differ:"
    assert [line[:20] for line in differences] == ["  row 1, probability", "  row 3, probability"]
    for arguments, reason in {
        ("release", "m", "9"): "has no version '9'",
        ("release", "m", "2", "--weight", "0"): "weight: expected a whole number",
        ("rollback", "m"): "There is no release of m",
        ("retire", "m", "1"): "takes all the traffic",
        ("list", "n"): "no model 'n'",
    }.items():
        with pytest.raises(CommandError, match=reason):
            model(*arguments)


def test_among_several_teams_the_one_is_named_that_the_job_is_for(m: Path) -> None:
    make_team("other")
    with pytest.raises(CommandError, match="--team"):
        model("release", "m", "2")
    with pytest.raises(CommandError, match="There is no team third"):
        model("release", "m", "2", "--team", "third")
    model("release", "m", "2", "--team", "other")
    # Who only goes back needs none.
    model("rollback", "m")
