"""`manage.py model` new, import, diff, check and schema, as one types them; the models are really trained."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from tests.unit.making.made import rides, rides_csv, saved, trained


@pytest.fixture
def place(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, settings: object) -> Path:
    """A store of one's own with the wine model in it, beside a CSV of rides."""
    shutil.copytree(store / "wine", tmp_path / "store" / "wine")
    monkeypatch.setenv("MODEL_STORE", str(tmp_path / "store"))
    settings.MODEL_STORE = tmp_path / "store"  # type: ignore[attr-defined]
    _, fare = rides()
    rides_csv(tmp_path / "rides.csv", fare=fare)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


def test_new_check_import_and_diff_go_together(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    call_command("model", "new", "rides", "--csv", "rides.csv", "--target", "fare")
    assert f"made {place}/rides/1" in capfd.readouterr().out
    call_command("model", "check", "rides")
    out = capfd.readouterr().out
    assert out.count("✓") == 7 and "model release rides 1" in out
    _, fare = rides()
    saved(trained(np.asarray(fare) + 1), Path("other.ubj"))
    call_command("model", "import", "other.ubj", "rides")
    assert f"made {place}/rides/2" in capfd.readouterr().out
    call_command("model", "diff", "rides", "1", "2")
    assert "value: differs by " in capfd.readouterr().out


def test_what_can_not_be_made_is_said_and_the_command_fails(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for words, reason in (
        (("new", "rides", "--csv", "rides.csv", "--target", "price"), "has no column 'price'"),
        (("import", "rides.csv", "wine"), "neither UBJ nor JSON"),
        (("diff", "wine", "1", "2"), "model 'wine' has no version '2'"),
    ):
        with pytest.raises(CommandError, match="the line above says why"):
            call_command("model", *words)
        assert reason in capfd.readouterr().err
    assert [path.name for path in place.iterdir()] == ["wine"]


def test_a_broken_version_hides_no_other(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        shutil.copytree(place / "wine", place / name)
    manifest = place / "a" / "1" / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("model: wine", "model: a").replace("pool: cpu", "pool: tpu"))
    manifest = place / "b" / "1" / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("model: wine", "model: b"))
    (place / "b" / "1" / "model.ubj").write_bytes(b"{}")
    with pytest.raises(CommandError, match="2 of 3 can't be served"):
        call_command("model", "check")
    out = capfd.readouterr().out
    assert "✗ a/1" in out and "✗ b/1" in out and "✓ wine/1" in out
    assert f"{place}/a/1/manifest.yaml:9: pool: " in out
    assert "manage.py model import" in out


def test_a_model_that_is_not_there_is_no_success(place: Path) -> None:
    with pytest.raises(CommandError, match="There is no nowhere in"):
        call_command("model", "check", "nowhere")


def test_the_form_is_printed_for_a_store_of_ones_own(
    place: Path, capfd: pytest.CaptureFixture[str], store: Path
) -> None:
    call_command("model", "schema")
    assert json.loads(capfd.readouterr().out) == json.loads((store / "manifest.schema.json").read_text())
