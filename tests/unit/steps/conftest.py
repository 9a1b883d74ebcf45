"""A storage of each test's own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the system's own storage; beside it `theirs`, a folder whose files may be named."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DATA_FOLDERS", str(theirs))
    return tmp_path / "data"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """The folder of data that isn't the system's own."""
    return tmp_path / "theirs"
