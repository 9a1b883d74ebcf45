"""A form made from a model's signature: one row of input, checked as the API checks it."""

from typing import Any

import numpy as np
from django import forms
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from inference_portal.console.tables import cell_text
from inference_portal.limits import request_limits
from workers.formats import Decoded, Invalid, escape, json_instances
from workers.golden import GoldenError, read_samples
from workers.model_store import Release
from workers.template.columns import Column


class PredictionForm(forms.Form):
    """One field a column, named by its position since a column's name may be anything. `decoded` is set once valid."""

    def __init__(self, release: Release, data: Any = None, initial: dict[str, str] | None = None) -> None:
        super().__init__(data, initial=initial)
        self.release = release
        self.decoded: Decoded | None = None
        for i, column in enumerate(release.manifest.columns):
            self.fields[_field(i)] = _choice(column) if column.type == "category" else _number(column)

    def clean(self) -> dict[str, Any]:
        """Decode the row as the API would; what is wrong is said at its field."""
        # Nothing chosen means missing.
        values = {name: None if value == "" else value for name, value in self.cleaned_data.items()}
        names = self.release.schema.names
        record = {name: values.get(_field(i)) for i, name in enumerate(names)}
        try:
            self.decoded = json_instances.decode(self.release, [record], request_limits())
        except Invalid as invalid:
            fields = {f"/{json_instances.NAME}/0/{escape(name)}": i for i, name in enumerate(names)}
            for fault in invalid.faults:
                i = fields[fault.pointer]
                if _field(i) not in self.errors:
                    reason = fault.detail.removeprefix(f"row 0, column '{names[i]}': ")
                    self.add_error(_field(i), reason[:1].upper() + reason[1:])
        return self.cleaned_data


def example(release: Release) -> dict[str, str] | None:
    """Return the first golden sample as the form's values; None when the release has none that can be read."""
    try:
        samples = read_samples(release)
    except GoldenError:
        return None
    if samples is None:
        return None
    row = samples.decoded.matrix[0]
    cells = release.schema.cells(row)
    return {_field(i): "" if np.isnan(row[i]) else cell_text(value) for i, value in enumerate(cells)}


def _field(i: int) -> str:
    return f"column_{i}"


def _choice(column: Column) -> forms.ChoiceField:
    choices = [(text, text) for text in column.categories]
    return forms.ChoiceField(
        label=column.name,
        required=_required(column),
        choices=[("", "Choose" if _required(column) else f"({_left_out(column)})"), *choices],
        widget=UnfoldAdminSelectWidget(),
        error_messages={"required": "A value is required."},
    )


def _number(column: Column) -> forms.FloatField:
    # Not <input type=number>: a browser sends what it can't read there as nothing, and nothing may mean "missing".
    widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"})
    errors = {"required": "A value is required.", "invalid": "Enter a number, such as 1.5."}
    return forms.FloatField(
        label=column.name, required=_required(column), help_text=_hint(column), widget=widget, error_messages=errors
    )


def _hint(column: Column) -> str:
    parts = ["whole number"] if column.type == "int" else []
    if column.range is not None:
        parts.append(f"{column.range[0]:,g} to {column.range[1]:,g}")
    if not _required(column):
        parts.append(f"may stay empty: {_left_out(column)}")
    return ", ".join(parts)


def _required(column: Column) -> bool:
    return not column.missing and column.default is None


def _left_out(column: Column) -> str:
    return "missing" if column.default is None else f"{cell_text(column.default)} then"
