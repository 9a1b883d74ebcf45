"""What the formats with named columns share: finding each column by its name, and pointers to row and column."""

from collections.abc import Sequence

from workers.formats import Fault, Invalid, Limits, Locate, escape, shown
from workers.schema import MAX_FAULTS, Schema


def positions(schema: Schema, names: Sequence[str], limits: Limits) -> list[int | None]:
    """Return where each of the schema's columns stands in `names`, None for one that was left out and may be.

    Raises Invalid for missing, unknown and repeated ones, TooLarge for too many. The pointer to a column as a whole is
    /{column}.
    """
    limits.check_columns(len(names))
    faults: list[Fault] = []
    found: dict[str, int] = {}
    for position, name in enumerate(names):
        if name not in schema.index:
            faults.append(column_fault(name, f"the model has no column '{shown(name)}'"))
        elif name in found:
            faults.append(column_fault(name, f"column '{name}' is sent twice"))
        found.setdefault(name, position)
        if len(faults) >= MAX_FAULTS:
            break
    else:
        faults += [column_fault(name, f"column '{name}' is missing") for name in schema.required if name not in found]
        if not found and not faults:
            faults.append(Fault("", f"at least one column is required, such as '{schema.names[0]}'"))
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    return [found.get(name) for name in schema.names]


def column_fault(name: str, reason: str) -> Fault:
    """Return what is wrong with a column as a whole."""
    return Fault(f"/{escape(shown(name))}", reason)


def locate(schema: Schema) -> Locate:
    """Return what points to a value as /{row}/{column}, rows from 0."""
    names = [escape(name) for name in schema.names]
    return lambda row, column: f"/{row}/{names[column]}"
