"""Real models of every kind, trained in milliseconds, for the tests of model files and of the runtime."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost

ROWS = 240
NAMES = ["a", "b", "c", "d"]
LABELS = ["red", "green", "blue"]


def table(seed: int = 5, rows: int = ROWS) -> npt.NDArray[np.float32]:
    """Four columns: two of numbers, one of them with gaps, one of codes 0 to 5, one of numbers above 0."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, 4)).astype(np.float32)
    values[::7, 1] = np.nan
    values[:, 2] = random.integers(0, 6, rows)
    values[:, 3] = np.abs(values[:, 3]) + 0.1
    return values


@dataclass(frozen=True)
class Kind:
    """How one kind of model is trained, and the output that its manifest declares."""

    params: dict[str, Any]
    output: dict[str, Any]
    label: str = "number"
    matrix: dict[str, Any] = field(default_factory=dict)


_BINARY: dict[str, Any] = {"kind": "binary", "labels": ["no", "yes"]}
_MULTI: dict[str, Any] = {"kind": "multiclass", "labels": LABELS}
_NUMBER: dict[str, Any] = {"kind": "regression"}
_CATEGORIES = {"feature_types": ["q", "q", "c", "q"], "enable_categorical": True}

KINDS: dict[str, Kind] = {
    **{
        objective: Kind({"objective": objective}, _BINARY, "class")
        for objective in ("binary:logistic", "binary:logitraw", "binary:hinge", "reg:logistic")
    },
    "multi:softprob": Kind({"objective": "multi:softprob", "num_class": 3}, _MULTI, "classes"),
    "multi:softmax": Kind({"objective": "multi:softmax", "num_class": 3}, _MULTI, "classes"),
    "two classes": Kind({"objective": "multi:softprob", "num_class": 2}, _BINARY, "class"),
    **{
        objective: Kind({"objective": objective}, _NUMBER, "positive")
        for objective in (
            "reg:squarederror",
            "reg:squaredlogerror",
            "reg:pseudohubererror",
            "reg:absoluteerror",
            "reg:gamma",
            "reg:tweedie",
            "count:poisson",
        )
    },
    "quantiles": Kind(
        {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]},
        _NUMBER | {"names": ["low", "middle", "high"]},
    ),
    "several targets": Kind({}, _NUMBER | {"names": ["x", "y"]}, "numbers"),
    "several targets in one tree": Kind(
        {"multi_strategy": "multi_output_tree"}, _NUMBER | {"names": ["x", "y"]}, "numbers"
    ),
    **{
        objective: Kind({"objective": objective}, {"kind": "ranking"}, "class", {"qid": np.arange(ROWS) // 10})
        for objective in ("rank:ndcg", "rank:pairwise", "rank:map")
    },
    "survival:cox": Kind({"objective": "survival:cox"}, {"kind": "survival"}, "positive"),
    "survival:aft": Kind(
        {"objective": "survival:aft", "aft_loss_distribution_scale": 0.7}, {"kind": "survival"}, "bounds"
    ),
    "dart": Kind(
        {"booster": "dart", "rate_drop": 0.5, "objective": "multi:softprob", "num_class": 3}, _MULTI, "classes"
    ),
    "gblinear": Kind({"booster": "gblinear"}, _NUMBER),
    "gblinear of classes": Kind(
        {"booster": "gblinear", "objective": "multi:softprob", "num_class": 3}, _MULTI, "classes"
    ),
    "categories": Kind({"max_cat_to_onehot": 2}, _NUMBER, "number", _CATEGORIES),
    "one-hot categories": Kind({"max_cat_to_onehot": 10}, _NUMBER, "number", _CATEGORIES),
    "pruned": Kind({"tree_method": "exact", "gamma": 5}, _NUMBER),
    "random forest": Kind({"num_parallel_tree": 3, "subsample": 0.5}, _NUMBER),
}


def train(kind: str, rounds: int = 6, **params: Any) -> xgboost.Booster:
    """Train a model of a kind on `table()`, with the columns' names."""
    made = KINDS[kind]
    values = table()
    random = np.random.default_rng(9)
    score = np.nan_to_num(values[:, 0] + values[:, 1]) + np.sin(values[:, 2] * 2) + random.normal(size=ROWS) / 4
    targets: dict[str, dict[str, Any]] = {
        "number": {"label": score},
        "numbers": {"label": np.column_stack([score, values[:, 3]])},
        "positive": {"label": np.exp(score / 2)},
        "class": {"label": score > 0},
        "classes": {"label": np.digitize(score, [-0.5, 0.5])},
        "bounds": {
            "label_lower_bound": np.exp(score),
            "label_upper_bound": np.exp(score) + (random.random(ROWS) < 0.5),
        },
    }
    matrix = xgboost.DMatrix(values, feature_names=NAMES, **targets[made.label], **made.matrix)
    defaults = {"nthread": 1, "max_depth": 3, "seed": 1, "verbosity": 0}
    return xgboost.train(defaults | made.params | params, matrix, num_boost_round=rounds)


def saved(booster: xgboost.Booster, form: str = "ubj") -> bytes:
    """Return the model as its file."""
    return bytes(booster.save_raw(form))
