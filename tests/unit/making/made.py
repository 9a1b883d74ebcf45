"""What the tests of making share: saying a command, and models that were really trained elsewhere."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from workers.making import arguments

ZONES = ("A", "B", "C")
ROWS = 300


def said(command: str, *words: str) -> Namespace:
    """The arguments of a command, as its process gets them."""
    parser = ArgumentParser()
    {"new": arguments.add_new, "import": arguments.add_import}[command](parser)
    return parser.parse_args(words, Namespace(command=command))


def make(command: Callable[..., Path], name: str, store: Path, *words: str) -> tuple[Path, list[str]]:
    """Make a version as the command does. Returns its folder and what was told."""
    store.mkdir(exist_ok=True)
    told: list[str] = []
    return command(store, said(name, *words), told.append), told


def rides() -> tuple[Any, Any]:
    """Kilometres, zone as its position, tip that may be missing; and the fare."""
    random = np.random.default_rng(7)
    features = np.column_stack(
        [random.uniform(0, 50, ROWS), random.integers(0, 3, ROWS), random.integers(1, 9, ROWS)]
    ).astype(np.float32)
    features[::5, 2] = np.nan
    return features, 3 + 2 * features[:, 0] + np.array([0, 20, 5])[features[:, 1].astype(int)]


def rides_csv(path: Path, **targets: Any) -> Path:
    """Write the rides as a CSV, with further columns."""
    features, _ = rides()
    lines = [",".join(["km", "zone", "tip", *targets])]
    for i, (km, zone, tip) in enumerate(features):
        cells = [f"{km:.9g}", ZONES[int(zone)], "" if np.isnan(tip) else f"{tip:.0f}"]
        lines.append(",".join([*cells, *(str(values[i]) for values in targets.values())]))
    path.write_text("\n".join(lines) + "\n")
    return path


def trained(target: Any, *, rounds: int = 20, named: bool = True, categories: bool = True, **params: Any) -> Any:
    """A model of the rides."""
    features, _ = rides()
    matrix = xgboost.DMatrix(
        features,
        label=target,
        feature_names=["km", "zone", "tip"] if named else None,
        feature_types=["q", "c", "int"] if categories else None,
        enable_categorical=categories,
    )
    return xgboost.train({"max_depth": 3, "nthread": 1, "tree_method": "hist"} | params, matrix, rounds)


def saved(booster: Any, path: Path) -> Path:
    """Save a model as UBJ or JSON, as the path's ending says."""
    booster.save_model(path)
    return path
