"""Training: the kind of model follows from the target."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost

from workers.making.table import Table

Values = npt.NDArray[Any]
Params = dict[str, float | int | str]
# For data that nobody has looked at: careful steps, and as many of them as make the rows held out better.
DEFAULTS: Params = {"eta": 0.1, "max_depth": 6, "subsample": 0.8, "max_bin": 256}
MOST_ROUNDS = 1_000
PATIENCE = 20
REPORT_EVERY = 50
# Every so manieth row, in the order of the target, is held out: so all classes and amounts are among them.
EVERY = 5
# XGBoost reads its own text of the losses, where a space or a dash would confuse it.
HELD_OUT = "held_out"


def objective(labels: tuple[str, ...]) -> Params:
    """Return what XGBoost shall learn: an amount without labels, a probability with two, one for each with more."""
    if not labels:
        return {"objective": "reg:squarederror"}
    if len(labels) == 2:
        return {"objective": "binary:logistic"}
    return {"objective": "multi:softprob", "num_class": len(labels)}


def fit(table: Table, params: Params, rounds: int) -> xgboost.Booster:
    """Train on all rows, for so many rounds."""
    return xgboost.train(objective(table.labels) | {"tree_method": "hist"} | params, table.data(), rounds)


def fit_and_try(table: Table, params: Params, tell: Callable[[str], None]) -> xgboost.Booster:
    """Train on four rows of five, until the fifth gains nothing; tell how it goes, and how good it is on those.

    The model has no more trees than those that count.
    """
    order = np.random.default_rng(0).permutation(len(table.target))
    order = order[np.argsort(table.target[order], kind="stable")]
    out = np.arange(len(order)) % EVERY == EVERY // 2
    held_out = table.data(order[out])
    booster = xgboost.train(
        objective(table.labels) | {"tree_method": "hist"} | DEFAULTS | params,
        table.data(order[~out]),
        MOST_ROUNDS,
        evals=[(held_out, HELD_OUT)],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
        callbacks=[_Progress(tell)],
    )
    booster = booster[: booster.best_iteration + 1]
    tell(f"{booster.num_boosted_rounds()} rounds, learned from {(~out).sum():,} rows. On the {out.sum():,} held out:")
    predicted = booster.predict(held_out)
    if table.labels:
        predicted = predicted.argmax(axis=1) if predicted.ndim == 2 else predicted >= 0.5
    for line in quality(table.labels, predicted, table.target[order[out]], table.target[order[~out]]):
        tell(line)
    return booster


def quality(labels: tuple[str, ...], predicted: Values, actual: Values, known: Values) -> Iterator[str]:
    """Say how good predictions are, beside the best answer that knows no column but has seen the targets in `known`.

    All are positions among the labels, or amounts if there are none.
    """
    if labels:
        usual = int(np.bincount(known.astype(np.intp)).argmax())
        good, plain = np.mean(predicted == actual), np.mean(actual == usual)
        yield f"  right in {good:.1%} of them; always '{labels[usual]}' would be right in {plain:.1%}"
        better = good > plain
    else:
        middle = np.median(known)
        good, plain = np.abs(predicted - actual).mean(), np.abs(middle - actual).mean()
        yield f"  off by {good:.4g} on average; always {middle:.4g} would be off by {plain:.4g}"
        better = good < plain
    if not better:
        yield "  That is no better than not looking at the columns: they don't tell the target, or too few rows."


class _Progress(xgboost.callback.TrainingCallback):
    """Tells every so many rounds how large the loss is on the rows held out."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Tell. Returns False: go on."""
        if (epoch + 1) % REPORT_EVERY == 0:
            ((metric, losses),) = evals_log[HELD_OUT].items()
            self._tell(f"round {epoch + 1}: {metric} {losses[-1]:.4g}")
        return False
