"""What the unit tests share: tiny models that were really trained, in a store of their own."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.unit import builders

settings.register_profile("unit", deadline=None, database=None, derandomize="CI" in os.environ, max_examples=80)
settings.load_profile("unit")


@pytest.fixture(scope="session")
def trained_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `two/1` (binary), `three/1` (multiclass) and `number/1` (regression). Read only."""
    root = tmp_path_factory.mktemp("trained")
    for model, output in builders.OUTPUTS.items():
        builders.train_tiny(root, model, output)
    return root
