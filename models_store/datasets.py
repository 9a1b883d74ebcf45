"""The data of the examples: scikit-learn's bundled sets, and one that is generated."""

import numpy as np
import sklearn.datasets

from workers.making.table import Table, number_column
from workers.template.columns import Column


def load(name: str) -> Table:
    """Return a data set by the name in a manifest's `training`: `load_…` of scikit-learn, or `generate_…` below."""
    if name in GENERATED:
        return GENERATED[name]()
    # In years and kilograms, not in standard deviations.
    data = getattr(sklearn.datasets, name)(**({"scaled": False} if name == "load_diabetes" else {}))
    matrix = data.data.astype(np.float32)
    columns = [number_column(str(name), values) for name, values in zip(data.feature_names, matrix.T, strict=True)]
    labels = tuple(str(label) for label in data.get("target_names", ()))
    return Table(tuple(columns), matrix, data.target.astype(np.float32), labels)


def generate_churn() -> Table:
    """Return customers of a phone company, made up: who leaves? Has categories, whole numbers and missing values."""
    random = np.random.default_rng(7)
    rows = 2_000
    plans, payments = ("basic", "family", "premium"), ("card", "cash", "transfer")
    plan = random.choice(3, rows, p=[0.5, 0.3, 0.2])
    payment = random.choice(3, rows, p=[0.5, 0.2, 0.3]).astype(np.float64)
    months = random.integers(1, 73, rows)
    fee = np.round(np.array([12.0, 25.0, 40.0])[plan] + random.normal(0, 2, rows), 2)
    calls = random.poisson(1.2, rows).astype(np.float64)
    leaning = (
        0.9 * calls - 0.06 * months + np.array([0.4, -0.6, 0.2])[plan] + np.array([-0.4, 0.9, 0.0])[payment.astype(int)]
    )
    leaves = random.random(rows) < 1 / (1 + np.exp(-leaning))
    # Whoever never called has no record of calls at all, and some never said how they pay.
    calls[calls == 0] = np.nan
    payment[random.random(rows) < 0.1] = np.nan
    columns = (
        Column(name="plan", type="category", categories=plans),
        Column(name="payment", type="category", categories=payments, missing=True),
        number_column("months", months.astype(np.float64), whole=True),
        number_column("monthly_fee", fee),
        number_column("support_calls", calls, whole=True),
    )
    matrix = np.column_stack([plan, payment, months, fee, calls]).astype(np.float32)
    return Table(columns, matrix, leaves.astype(np.float32), ("stays", "leaves"))


GENERATED = {"generate_churn": generate_churn}
