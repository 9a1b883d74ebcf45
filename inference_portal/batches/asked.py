"""What somebody asks for with a batch, checked before anything is stored. Each fault names its field."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone
from pydantic import ValidationError

from inference_portal.accounts.callers import Caller
from inference_portal.batches.models import Batch
from inference_portal.batches.policies import RetryPolicy
from workers.datasets import DatasetError, Input
from workers.datasets.place import check_uri
from workers.formats import MAX_SHOWN, Fault, Invalid

FORMATS = ("parquet", "csv")
MAX_CHUNK_ROWS = 1_000_000
MAX_ATTEMPTS = 20
MAX_KEPT = 1_000
# In all: the job of each chunk has them.
MAX_KEPT_LENGTH = 32_000
_STORE = "store://"
# Without NUL and lone surrogates, which PostgreSQL doesn't store.
_NAME = re.compile(r"[^\0\ud800-\udfff]{1,256}")


def checked_input(given: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """Return the input with all its options. Raises Invalid."""
    try:
        read = Input.model_validate(given)
    except ValidationError as error:
        raise Invalid(*_faults_of(error)) from error
    check_readable(read.uri, "/input/uri", caller)
    return read.model_dump()


def check_readable(uri: str, pointer: str, caller: Caller) -> None:
    """Raise Invalid for a place from which nothing may be read, or not by this caller. Looks at no file."""
    _check_place(uri, pointer)
    _check_ours(uri, pointer, caller)


def checked_output(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the output's place, None for the batch's own, and its format. Raises Invalid."""
    if unknown := sorted(set(given) - {"uri", "format"}):
        raise Invalid(Fault(f"/output/{unknown[0][:MAX_SHOWN]}", "expected 'uri' and 'format' only"))
    uri, kind = given.get("uri"), given.get("format", FORMATS[0])
    if kind not in FORMATS:
        raise Invalid(Fault("/output/format", f"expected one of {', '.join(FORMATS)}"))
    if uri is not None:
        if not isinstance(uri, str):
            raise Invalid(Fault("/output/uri", "expected text"))
        _check_place(uri, "/output/uri")
        if uri.startswith(_STORE):
            raise Invalid(
                Fault("/output/uri", "leave it out for the storage of this system, or expected file:// or s3://")
            )
        if uri.endswith("/"):
            raise Invalid(Fault("/output/uri", "expected the name of a file, not of a folder"))
    return {"uri": uri, "format": kind}


def checked_columns(names: Sequence[str]) -> list[str]:
    """Return the columns of the input that the output repeats. Raises Invalid."""
    if len(names) > MAX_KEPT:
        raise Invalid(Fault("/keep_columns", f"expected at most {MAX_KEPT:,} names, got {len(names):,}"))
    seen: set[str] = set()
    for position, name in enumerate(names):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Invalid(Fault(f"/keep_columns/{position}", "expected the name of a column"))
        if name in seen:
            raise Invalid(Fault(f"/keep_columns/{position}", f"'{name[:MAX_SHOWN]}' is there twice"))
        seen.add(name)
    if (length := sum(map(len, names))) > MAX_KEPT_LENGTH:
        text = f"expected names of at most {MAX_KEPT_LENGTH:,} characters together, got {length:,}"
        raise Invalid(Fault("/keep_columns", text))
    return list(names)


def check_numbers(*, chunk_rows: int, max_attempts: int, error_threshold: float | None) -> None:
    """Raise Invalid for a number that is out of its range."""
    if not 1 <= chunk_rows <= MAX_CHUNK_ROWS:
        raise Invalid(Fault("/chunk_rows", f"expected a whole number from 1 to {MAX_CHUNK_ROWS:,}"))
    if not 1 <= max_attempts <= MAX_ATTEMPTS:
        raise Invalid(Fault("/max_attempts", f"expected a whole number from 1 to {MAX_ATTEMPTS}"))
    if error_threshold is not None and not 0 <= error_threshold <= 1:
        raise Invalid(Fault("/error_threshold", "expected a share of the rows, from 0 to 1"))


def check_deadline(deadline: datetime | None) -> None:
    """Raise Invalid for a deadline that is over, or that nobody knows the time zone of."""
    if deadline is None:
        return
    if timezone.is_naive(deadline):
        raise Invalid(Fault("/deadline", "expected a time with its time zone, as in 2030-01-31T06:00:00Z"))
    if deadline <= timezone.now():
        raise Invalid(Fault("/deadline", "it has passed"))


def checked_policy(text: str, among: Sequence[RetryPolicy] = tuple(RetryPolicy)) -> RetryPolicy:
    """Return the retry policy of that name. Raises Invalid."""
    if text not in among:
        raise Invalid(Fault("/retry_policy", f"expected one of {', '.join(among)}"))
    return RetryPolicy(text)


def _check_place(uri: str, pointer: str) -> None:
    try:
        check_uri(uri)
    except DatasetError as error:
        raise Invalid(Fault(pointer, str(error))) from error


def _check_ours(uri: str, pointer: str, caller: Caller) -> None:
    """Raise Invalid for what is another team's in the system's storage: as if it weren't there."""
    if not uri.startswith(_STORE) or caller.sees_all_teams:
        return
    match uri.removeprefix(_STORE).split("/"):
        case ["uploads", team, *_] if team == str(caller.team_id):
            return
        case ["batches", batch, *_] if _is_id(batch) and Batch.objects.visible_to(caller).filter(id=batch).exists():
            return
    raise Invalid(Fault(pointer, f"your team has nothing at {uri}"))


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _faults_of(error: ValidationError) -> Iterator[Fault]:
    for each in error.errors():
        where = "".join(f"/{str(part)[:MAX_SHOWN]}" for part in each["loc"])
        yield Fault(f"/input{where}", each["msg"].removeprefix("Value error, "))
