"""What a worker's children can't load, and how their parent knows."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.builders import train_tiny, write_release
from workers import troubles
from workers.loaded_models import LoadedModels, ModelUnavailable
from workers.model_store import ModelStore, Release


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A parent that has made the folder."""
    monkeypatch.setattr(troubles, "_folder", None)
    troubles.share()
    yield
    assert troubles._folder is not None
    troubles._folder.cleanup()


def release(root: Path, model: str = "m", artifact: bytes = b"no model") -> Release:
    write_release(root, model, artifact=artifact)
    return ModelStore(root).get(model)


@pytest.mark.usefixtures("shared")
def test_what_a_child_notes_its_parent_reads_until_it_is_forgotten(tmp_path: Path) -> None:
    one, other = release(tmp_path, "one"), release(tmp_path, "other")
    assert troubles.reason(one) is None
    child = os.fork()
    if child == 0:
        troubles.note(one, "broken")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (troubles.reason(one), troubles.reason(other)) == ("broken", None)
    troubles.note(one, "broken otherwise")
    assert troubles.reason(one) == "broken otherwise"
    troubles.forget(one)
    troubles.forget(one)
    assert troubles.reason(one) is None


@pytest.mark.usefixtures("shared")
def test_a_folder_that_is_shared_again_keeps_what_it_holds(tmp_path: Path) -> None:
    one = release(tmp_path)
    troubles.note(one, "broken")
    troubles.share()  # the consumer starts again after a lost connection
    assert troubles.reason(one) == "broken"


@pytest.mark.usefixtures("shared")
def test_a_corrected_file_is_another_matter(tmp_path: Path) -> None:
    troubles.note(release(tmp_path, artifact=b"one"), "broken")
    assert troubles.reason(release(tmp_path, artifact=b"two")) is None


def test_a_process_without_a_parent_that_shares_notes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(troubles, "_folder", None)
    one = release(tmp_path)
    troubles.note(one, "broken")
    troubles.forget(one)
    assert troubles.reason(one) is None


@pytest.mark.usefixtures("shared")
def test_a_model_that_cannot_be_loaded_is_noted_and_one_that_can_is_not(tmp_path: Path) -> None:
    release(tmp_path, "broken")
    train_tiny(tmp_path, "good", {"kind": "regression"})
    store = ModelStore(tmp_path)
    models = LoadedModels(store)
    good, broken = store.get("good"), store.get("broken")
    models.get("good", "1", good.manifest.sha256)
    for _ in range(2):
        with pytest.raises(ModelUnavailable):
            models.get("broken", "1", broken.manifest.sha256)
    reason = troubles.reason(broken)
    assert reason and "\n" not in reason
    assert troubles.reason(good) is None


@pytest.mark.usefixtures("shared")
def test_a_model_that_loads_at_last_is_no_trouble_any_more(tmp_path: Path) -> None:
    train_tiny(tmp_path, "good", {"kind": "regression"})
    good = ModelStore(tmp_path).get("good")
    troubles.note(good, "out of memory")
    LoadedModels(ModelStore(tmp_path)).get("good", "1", good.manifest.sha256)
    assert troubles.reason(good) is None


def dies_while_it_loads(release: Release) -> None:
    child = os.fork()
    if child == 0:
        with troubles.loading(release):
            os._exit(1)
    os.waitpid(child, 0)


@pytest.mark.usefixtures("shared")
def test_a_model_that_kills_whoever_loads_it_is_not_loaded_any_more(tmp_path: Path) -> None:
    train_tiny(tmp_path, "deadly", {"kind": "regression"})
    train_tiny(tmp_path, "good", {"kind": "regression"})
    store = ModelStore(tmp_path)
    deadly, good = store.get("deadly"), store.get("good")
    for _ in range(troubles.DEADLY):
        assert troubles.reason(deadly) is None
        dies_while_it_loads(deadly)
    reason = troubles.reason(deadly)
    assert reason is not None
    assert "died while they loaded it" in reason
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match=f"deadly version 1: {reason}"):
            LoadedModels(store).get("deadly", "1", deadly.manifest.sha256)
    assert troubles.reason(deadly) == reason
    LoadedModels(store).get("good", "1", good.manifest.sha256)
    assert troubles.reason(good) is None
    # Another file is another matter.
    assert troubles.reason(release(tmp_path, "deadly", b"corrected")) is None


@pytest.mark.usefixtures("shared")
def test_who_survives_a_load_clears_the_model_of_the_deaths_before(tmp_path: Path) -> None:
    """They were kills from outside: of those, any number may come in a worker's life."""
    train_tiny(tmp_path, "good", {"kind": "regression"})
    good = ModelStore(tmp_path).get("good")
    for _ in range(2 * troubles.DEADLY):
        dies_while_it_loads(good)
        LoadedModels(ModelStore(tmp_path)).get("good", "1", good.manifest.sha256)
    assert troubles.reason(good) is None


@pytest.mark.usefixtures("shared")
def test_who_is_loading_has_not_died(tmp_path: Path) -> None:
    one = release(tmp_path)
    for _ in range(troubles.DEADLY - 1):
        dies_while_it_loads(one)
    with troubles.loading(one):
        assert troubles.reason(one) is None


@pytest.mark.usefixtures("shared")
def test_a_job_for_another_file_is_no_trouble_of_the_file_that_is_here(tmp_path: Path) -> None:
    """The portal has a newer file than this worker: the worker can serve what it has."""
    train_tiny(tmp_path, "good", {"kind": "regression"})
    store = ModelStore(tmp_path)
    good = store.get("good")
    models = LoadedModels(store)
    models.get("good", "1", good.manifest.sha256)
    with pytest.raises(ModelUnavailable):
        models.get("good", "1", "ab" * 32)
    assert troubles.reason(good) is None
