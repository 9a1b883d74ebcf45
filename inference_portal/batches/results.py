"""What a batch's steps have returned, read strictly: a worker of another version may have written it."""

from dataclasses import dataclass
from typing import Any, Self

import orjson


class Unreadable(ValueError):
    """A step's result has another shape."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan: how many rows there are, where, and what the input's columns and files are."""

    rows: int
    columns: list[str]
    files: list[Any]
    output: str
    # Each with `first`, `rows` and `source`, in order and without gaps.
    ranges: list[dict[str, Any]]

    @classmethod
    def read(cls, result: bytes | None) -> Self:
        """Read a plan step's result. Raises Unreadable."""
        data = _object(result)
        try:
            plan = cls(
                int(data["rows"]),
                list(data["columns"]),
                list(data["files"]),
                str(data["output"]),
                [{"first": int(r["first"]), "rows": int(r["rows"]), "source": r["source"]} for r in data["ranges"]],
            )
        except (LookupError, TypeError, ValueError) as error:
            raise Unreadable(f"the plan can't be read: {error!r}") from error
        following = 0
        for each in plan.ranges:
            if each["first"] != following or each["rows"] < 1:
                raise Unreadable(f"the plan has a gap at row {following}")
            following += each["rows"]
        if not plan.ranges or following != plan.rows:
            raise Unreadable(f"the plan has {following} of {plan.rows} rows")
        return plan


def ranges_again(result: bytes | None) -> list[dict[str, Any]]:
    """Return the ranges of a plan that was read before. Raises Unreadable when it is gone."""
    ranges: list[dict[str, Any]] = _object(result).get("ranges", [])
    return ranges


@dataclass(frozen=True, slots=True)
class Predicted:
    """A chunk that is done: how many rows it has, and how many of them have no prediction."""

    rows: int
    failed: int

    @classmethod
    def read(cls, result: bytes | None) -> Self:
        """Read a chunk step's result. Raises Unreadable."""
        data = _object(result)
        try:
            done = cls(int(data["rows"]), int(data["failed"]))
        except (LookupError, TypeError, ValueError) as error:
            raise Unreadable(f"the chunk's result can't be read: {error!r}") from error
        if not 0 <= done.failed <= done.rows:
            raise Unreadable(f"the chunk says that {done.failed} of {done.rows} rows failed")
        return done


@dataclass(frozen=True, slots=True)
class Merged:
    """An output that is written: where, and its `rows`, of which `failed` have no prediction."""

    rows: int
    failed: int
    output: dict[str, Any]
    errors: dict[str, Any] | None

    @classmethod
    def read(cls, result: bytes | None) -> Self:
        """Read a merge step's result. Raises Unreadable."""
        data = _object(result)
        try:
            output = {name: data[name] for name in ("uri", "rows", "bytes", "sha256")}
            return cls(int(data["rows"]), int(data["failed"]), output, data["errors"])
        except (LookupError, TypeError, ValueError) as error:
            raise Unreadable(f"the merge's result can't be read: {error!r}") from error


def _object(result: bytes | None) -> dict[str, Any]:
    try:
        data = orjson.loads(bytes(result or b""))
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"a step's result isn't JSON: {error}") from error
    if not isinstance(data, dict):
        raise Unreadable(f"a step's result is a {type(data).__name__}")
    return data
