"""The model store: what is served, what is refused, and how soon a change is seen."""

import os
import shutil
from pathlib import Path

import pytest

from tests.unit.builders import write_release
from workers import model_store
from workers.model_store import ArtifactError, ModelStore, UnknownModel


@pytest.fixture
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait between two looks at the folder."""
    monkeypatch.setattr(model_store, "RESCAN_SECONDS", -1.0)


def test_a_wrong_manifest_is_reported_and_the_others_are_served(tmp_path: Path) -> None:
    write_release(tmp_path, "right")
    wrong = write_release(tmp_path, "wrong", template=99)
    snapshot = ModelStore(tmp_path).snapshot()
    assert list(snapshot.releases) == ["right"]
    (problem,) = snapshot.problems
    assert (problem.path, problem.line) == (wrong, 1)


def test_a_manifest_without_its_model_file_is_reported(tmp_path: Path) -> None:
    path = write_release(tmp_path, "m")
    (path.parent / "model.ubj").unlink()
    snapshot = ModelStore(tmp_path).snapshot()
    assert snapshot.releases == {}
    assert "model.ubj: No such file" in snapshot.problems[0].reason


def test_a_store_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert ModelStore(tmp_path / "nowhere").snapshot().releases == {}


def test_without_a_version_the_newest_by_number_is_returned(tmp_path: Path) -> None:
    for version in ("9", "10", "2"):
        write_release(tmp_path, "m", version)
    store = ModelStore(tmp_path)
    assert store.get("m").manifest.version == "10"
    assert store.get("m", "9").manifest.version == "9"


@pytest.mark.parametrize(
    ("model", "version"), [("x", None), ("x", "1"), ("m", "2"), ("m", "01"), ("m", ""), ("", None), ("../m", "1")]
)
def test_what_is_not_there_is_an_unknown_model(tmp_path: Path, model: str, version: str | None) -> None:
    write_release(tmp_path, "m")
    with pytest.raises(UnknownModel):
        ModelStore(tmp_path).get(model, version)


@pytest.mark.usefixtures("looks_always")
def test_a_new_version_is_seen_without_a_restart(tmp_path: Path) -> None:
    write_release(tmp_path, "m", "1")
    store = ModelStore(tmp_path)
    assert store.get("m").manifest.version == "1"
    write_release(tmp_path, "m", "2")
    assert store.get("m").manifest.version == "2"
    shutil.rmtree(tmp_path / "m" / "2")
    assert store.get("m").manifest.version == "1"


@pytest.mark.usefixtures("looks_always")
def test_a_corrected_manifest_is_served_without_a_restart(tmp_path: Path) -> None:
    write_release(tmp_path, "m", template=99)
    store = ModelStore(tmp_path)
    assert len(store.snapshot().problems) == 1
    write_release(tmp_path, "m")
    assert store.snapshot().problems == ()
    assert store.get("m").manifest.template == 2


@pytest.mark.usefixtures("looks_always")
def test_a_model_file_that_comes_after_its_manifest_is_served_without_a_restart(tmp_path: Path) -> None:
    path = write_release(tmp_path, "m")
    (path.parent / "model.ubj").rename(path.parent / "later")
    store = ModelStore(tmp_path)
    assert len(store.snapshot().problems) == 1
    (path.parent / "later").rename(path.parent / "model.ubj")
    assert store.get("m").manifest.model == "m"


def test_between_two_looks_the_folder_is_not_read(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert store.snapshot().releases == {}
    write_release(tmp_path, "m")
    assert store.snapshot().releases == {}


@pytest.mark.usefixtures("looks_always")
def test_nothing_changed_means_the_same_snapshot(tmp_path: Path) -> None:
    write_release(tmp_path, "m")
    store = ModelStore(tmp_path)
    assert store.snapshot() is store.snapshot()


def test_the_artifact_is_the_bytes_that_the_manifest_describes(tmp_path: Path) -> None:
    write_release(tmp_path, "m", artifact=b"these bytes")
    assert ModelStore(tmp_path).get("m").artifact() == b"these bytes"


def test_a_changed_artifact_is_refused(tmp_path: Path) -> None:
    path = write_release(tmp_path, "m")
    release = ModelStore(tmp_path).get("m")
    (path.parent / "model.ubj").write_bytes(b"other bytes")
    with pytest.raises(ArtifactError, match="sha256 is"):
        release.artifact()


def test_a_missing_artifact_is_refused(tmp_path: Path) -> None:
    path = write_release(tmp_path, "m")
    release = ModelStore(tmp_path).get("m")
    os.remove(path.parent / "model.ubj")
    with pytest.raises(ArtifactError, match="No such file"):
        release.artifact()


def test_a_manifest_in_the_wrong_folder_is_not_served(tmp_path: Path) -> None:
    write_release(tmp_path, "m")
    shutil.copytree(tmp_path / "m", tmp_path / "copy")
    snapshot = ModelStore(tmp_path).snapshot()
    assert list(snapshot.releases) == ["m"]
    assert "is not the name of its folder" in snapshot.problems[0].reason
