"""A batch as JSON fields, from the API, the console's form and the command line alike: their types, then the service.

What values may be is `batches.asked`'s business, for every caller of the services.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from inference_portal.accounts.callers import Caller
from inference_portal.batches.models import Batch
from inference_portal.batches.policies import RetryPolicy
from inference_portal.batches.services import batch_accept, batch_change, batch_new, batch_rerun
from workers.formats import Fault, Invalid, escape, shown
from workers.schema import MAX_FAULTS

POLICIES = tuple(policy.value for policy in (RetryPolicy.PARTIAL, RetryPolicy.ALL, RetryPolicy.NONE))
RERUN_POLICIES = POLICIES[:2]
INPUT_FORMATS = ("auto", "parquet", "csv", "arrow")


def submit(data: Mapping[str, Any], caller: Caller) -> Batch:
    """Accept a batch with these fields. Raises Invalid, which names each wrong one; UnknownModel, Full."""
    batch = batch_new(caller=caller, **read_new(data))
    batch_accept(batch=batch)
    return batch


def read_new(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a new batch in their types, as `batch_new` takes them. Raises Invalid."""
    given = _read(data, _NEW)
    if missing := [name for name in ("model", "input") if name not in given]:
        raise Invalid(*(Fault(f"/{name}", "expected a value") for name in missing))
    for name in ("input", "output"):
        if name in given:
            given[name] = {key: value for key, value in given[name].items() if value is not None}
    return given


def change(batch_id: UUID, data: Mapping[str, Any], caller: Caller) -> Batch:
    """Change how an open batch goes on; a deadline of null takes it away. Raises Invalid, NotWaiting."""
    given: dict[str, Any] = _read(data, {name: _NEW[name] for name in ("retry_policy", "deadline")})
    if "deadline" in data and data["deadline"] is None:
        given["deadline"] = None
    if not given:
        raise Invalid(Fault("", "expected 'retry_policy' or 'deadline'"))
    return batch_change(batch_id=batch_id, caller=caller, **given)


def rerun(batch_id: UUID, data: Mapping[str, Any], caller: Caller) -> Batch:
    """Run a batch again that has ended; what failed, unless told. Raises Invalid, NotWaiting, Full."""
    given = _read(data, {"retry_policy": _NEW["retry_policy"]})
    return batch_rerun(batch_id=batch_id, caller=caller, **{"retry_policy": RetryPolicy.PARTIAL.value, **given})


def _read(data: Mapping[str, Any], readers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Return what was given, in its types; null is as good as none. Raises Invalid."""
    if unknown := sorted(data.keys() - readers.keys()):
        raise Invalid(*(Fault(f"/{escape(shown(name))}", "there is no such field") for name in unknown[:MAX_FAULTS]))
    values, faults = {}, []
    for name, value in data.items():
        if value is None:
            continue
        try:
            values[name] = readers[name](value)
        except ValueError as error:
            faults.append(Fault(f"/{name}", str(error)))
    if faults:
        raise Invalid(*faults)
    return values


def _of_type(kind: type, words: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        # Not isinstance: true is an int.
        if type(value) is not kind:
            raise ValueError(f"expected {words}")
        return value

    return read


def _share(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError("expected a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("expected a share of the rows, from 0 to 1") from None


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
        # Near the ends of the calendar a time has no equivalent in UTC: PostgreSQL would store it, and nobody could
        # read the row again.
        moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("expected a time with its zone, such as 2030-01-31T06:00:00Z") from None
    return moment


_text = _of_type(str, "text")
_object = _of_type(dict, "an object")
_number = _of_type(int, "a whole number")
_NEW: dict[str, Callable[[Any], Any]] = {
    "model": _text,
    "version": _text,
    "input": _object,
    "output": _object,
    "keep_columns": _of_type(list, "a list of columns' names"),
    "chunk_rows": _number,
    "retry_policy": _text,
    "max_attempts": _number,
    "error_threshold": _share,
    "deadline": _moment,
}
