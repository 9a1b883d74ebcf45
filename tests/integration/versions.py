"""A model `m` with several trained versions, in a store of the test's own that portal and worker read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inference_portal.catalog import golden
from inference_portal.store import model_store
from tests.integration.work import work
from tests.unit.builders import OUTPUTS, train_tiny
from workers import tasks
from workers.loaded_models import LoadedModels
from workers.model_store import ModelStore


@contextmanager
def versions(monkeypatch: pytest.MonkeyPatch, settings: Any, folder: Path, *names: str) -> Iterator[Path]:
    """Serve these versions of `m`, beside the wine model, while the block runs. Yields the model's folder.

    Whoever waits for golden samples is the worker meanwhile: without threads a test needs no database to be emptied,
    which takes seconds on PostgreSQL.
    """
    (folder / "wine").symlink_to(settings.MODEL_STORE / "wine")
    settings.MODEL_STORE = folder
    for name in names:
        add(folder, name)
    monkeypatch.setattr(tasks, "_models", LoadedModels(ModelStore(folder)))
    monkeypatch.setattr(golden, "let_go", work)
    model_store.cache_clear()
    yield folder / "m"
    model_store.cache_clear()


def add(folder: Path, version: str, **changes: Any) -> Path:
    """Train one more. Returns its folder."""
    manifest = train_tiny(folder, "m", OUTPUTS["two"], version=version, **changes)
    model_store.cache_clear()
    return manifest.parent


def spoil(version: Path) -> None:
    """Let the golden samples of a version expect something else in their rows 1 and 3."""
    path = version / "golden.json"
    golden = json.loads(path.read_text())
    for row in (1, 3):
        golden["raw"][row][0] += 0.25
    path.write_text(json.dumps(golden))
